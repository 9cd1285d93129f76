"""``--task regress``: texts or pairs of texts, each with a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxft.cli.inputs import ordered_batches, random_tokens, say_cut, tokens, training_batches
from jaxft.cli.tasks.classify import texts_of
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, no_check, nothing

if TYPE_CHECKING:
    from jaxft.data import Dataset, Table
    from jaxft.types import Batch, Model, Objective


def _read(source: str, labelled: bool) -> Table:
    from jaxft.data import float_labels, read_table

    rows = read_table(source, require=("text", "label") if labelled else ("text",))
    if labelled:
        float_labels(rows)
    return rows


def _labels(rows: Table) -> Labels:
    del rows
    return ("value",)


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import float_labels

    return tokens(model, configuration, rows, float_labels(rows))


def _objective() -> Objective:
    from jaxft.objectives import mean_squared_error

    return mean_squared_error()


def _example(model: Model, configuration: Configuration, rows: int) -> Batch:
    import numpy as np

    return {**random_tokens(model, configuration, rows), "labels": np.zeros(rows, np.float32)}


def _evaluate(learned: Learned, rows: Table, dataset: Dataset) -> dict[str, float]:
    from jaxft.train import evaluate

    batches = ordered_batches(dataset, learned.configuration)
    figures = evaluate(learned.model.apply, learned.params, batches, task="regress")
    return figures | {"loss": figures["mse"]}


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    from jaxft.train import predict

    dataset = tokens(learned.model, learned.configuration, rows, None)
    say_cut(dataset, learned.configuration, rows.source)
    values = predict(learned.model.apply, learned.params, ordered_batches(dataset, learned.configuration))
    for row, value in enumerate(values[:, 0]):
        yield texts_of(rows, row) | {"value": float(value)}


REGRESS = Task(
    name="regress",
    model_task="regress",
    options={"max_length": 128, "pooling": None},
    columns=("text", "text_pair", "label"),
    read=_read,
    labels=_labels,
    check=no_check,
    dataset=_dataset,
    training=training_batches,
    describe=nothing,
    objective=_objective,
    example=_example,
    evaluate=_evaluate,
    figures=(
        ("mse", "mean squared error"),
        ("pearson", "Pearson correlation"),
        ("spearman", "Spearman correlation"),
    ),
    best=("mse", "min"),
    loss="mean squared error",
    predict=_predict,
)
