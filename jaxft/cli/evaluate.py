"""``jaxft evaluate``: the figures of a run on labelled rows."""

from __future__ import annotations

import json as js
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import tyro

from jaxft.cli.record import check_pairs, read_record

_NAMES = {"f1": "macro F1", "mcc": "Matthews correlation", "loss": "cross-entropy"}


def evaluate(
    run: Path,
    eval: str,
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
    json: bool = False,
) -> None:
    """Evaluate a run on labelled rows: accuracy with its 95 % interval, macro F1, Matthews correlation, cross-entropy.

    Args:
        run: Directory of a run; its best checkpoint is evaluated, or its last if it had no --eval.
        eval: Labelled rows: a .csv, .tsv, .jsonl or .parquet file, or a hub data set; columns text, label.
        model: Where the base model is now, if it is no longer where the run found it.
        json: Print one JSON object in place of the table.
    """
    from jaxft.cli.inputs import ordered_batches, tokens
    from jaxft.cli.rebuild import load_run
    from jaxft.cli.tables import print_table
    from jaxft.data import Vocabulary, read_table
    from jaxft.train import enable_compile_cache
    from jaxft.train import evaluate as evaluate_rows

    record = read_record(run)
    table = read_table(eval)
    check_pairs(record, table)
    ids = Vocabulary(record.labels).ids(table)
    enable_compile_cache()
    trained = load_run(run, model)
    dataset = tokens(trained.model, record.configuration, table, ids)
    figures = evaluate_rows(trained.model.apply, trained.params, ordered_batches(dataset, record.configuration))
    if json:
        print(js.dumps({"rows": len(table), "step": trained.step, "checkpoint": trained.chosen, **figures}))
        return
    caption = f"{len(table)} rows, {trained.chosen} checkpoint, step {trained.step} of {record.steps}"
    print_table(("figure", "value", "95 % interval"), figure_rows(figures), caption=caption)


def figure_rows(figures: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """The figures of an evaluation as rows of a table: name, value, interval."""
    interval = f"{figures['accuracy_low']:.4f} – {figures['accuracy_high']:.4f}"
    rows = [("accuracy", f"{figures['accuracy']:.4f}", interval)]
    return rows + [(shown, f"{figures[name]:.4f}", "") for name, shown in _NAMES.items()]
