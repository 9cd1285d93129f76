"""``jaxft predict``: what a run says of every row of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from jaxft.cli.places import check_file
from jaxft.cli.record import check_pairs, read_record
from jaxft.cli.rows import check_suffix, write_rows


def predict(
    run: Path,
    data: str,
    out: Path,
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
) -> None:
    """Predict every row of a table.

    The rows of the output are those of the input, in order. classify and images: the text or image, then label and
    one column probability_LABEL for each label. regress: value. tag: a tag for each word. spans: answer. lm:
    perplexity. chat: the reply to each conversation without its last reply. seq2seq: the generated text.

    Args:
        run: Directory of a run; its best checkpoint predicts, or its last if it had no --eval.
        data: Rows to predict, as `jaxft finetune --train` reads them; labels are not needed.
        out: File to write: .csv or .jsonl, and .jsonl alone for tag and chat.
        model: Where the base model is now, if it is no longer where the run found it.
    """
    from jaxft.cli.rebuild import load_run
    from jaxft.train import enable_compile_cache

    record = read_record(run)
    check_suffix(out, record.task.suffixes)
    check_file(out, inputs=(data,))
    table = record.task.read(data, False)
    check_pairs(record, table)
    enable_compile_cache()
    trained = load_run(run, model)
    write_rows(out, record.task.predict(trained.learned, table))
    print(f"{len(table)} predictions in {out} (step {trained.step}, {trained.chosen} checkpoint)")
