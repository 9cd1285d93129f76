"""``jaxft predict``: a label and probabilities for every row of a table."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxft.cli.places import check_file
from jaxft.cli.record import check_pairs, read_record
from jaxft.errors import InputError
from jaxft.files import atomic_file

if TYPE_CHECKING:
    import numpy as np

    from jaxft.cli.rebuild import Trained
    from jaxft.data import Table


def predict(
    run: Path,
    data: str,
    out: Path,
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
) -> None:
    """Predict the label of every row of a table, with the probability of each label.

    The rows of the output are those of the input, in order: the texts, then label, then one column
    probability_LABEL for each label.

    Args:
        run: Directory of a run; its best checkpoint predicts, or its last if it had no --eval.
        data: Rows to predict: a .csv, .tsv, .jsonl or .parquet file, or a hub data set; its column is text.
        out: CSV file to write.
        model: Where the base model is now, if it is no longer where the run found it.
    """
    from jaxft.cli.rebuild import load_run
    from jaxft.data import read_table
    from jaxft.train import enable_compile_cache

    if out.suffix.lower() != ".csv":
        raise InputError(f"predictions are written as CSV, but {out} does not end in .csv: name another file")
    check_file(out, inputs=(data,))
    table = read_table(data, require=("text",))
    check_pairs(read_record(run), table)
    enable_compile_cache()
    trained = load_run(run, model)
    write_predictions(out, table, trained, probabilities(trained, table))
    print(f"{len(table)} predictions in {out} (step {trained.step}, {trained.chosen} checkpoint)")


def probabilities(trained: Trained, table: Table) -> np.ndarray:
    """The probability of every label for every row, ``[rows, labels]`` float64."""
    import numpy as np

    from jaxft.cli.inputs import ordered_batches, tokens
    from jaxft.train import predict as predict_logits

    configuration = trained.record.configuration
    dataset = tokens(trained.model, configuration, table, None)
    logits = predict_logits(trained.model.apply, trained.params, ordered_batches(dataset, configuration))
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def write_predictions(out: Path, table: Table, trained: Trained, values: np.ndarray) -> None:
    """Writes the predictions, all or nothing."""
    labels = trained.record.labels
    texts = [name for name in ("text", "text_pair") if name in table]
    with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*texts, "label", *(f"probability_{label}" for label in labels)])
        for row, probability in enumerate(values):
            cells = [table[name][row] for name in texts]
            writer.writerow([*cells, labels[probability.argmax()], *(f"{value:.6f}" for value in probability)])
