"""``--task classify``: texts or pairs of texts, each with one label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxft.cli.inputs import ordered_batches, random_tokens, say_cut, tokens, training_batches
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, nothing

if TYPE_CHECKING:
    import numpy as np

    from jaxft.data import Dataset, Table
    from jaxft.types import Batch, Model, Objective

FIGURES = (
    ("accuracy", "accuracy"),
    ("f1", "macro F1"),
    ("mcc", "Matthews correlation"),
    ("loss", "cross-entropy"),
)


def read_texts(source: str, labelled: bool) -> Table:
    """Rows of a table with a column ``text``, perhaps ``text_pair``, and ``label`` if they are labelled."""
    from jaxft.data import read_table

    return read_table(source, require=("text", "label") if labelled else ("text",))


def names(rows: Table) -> Labels:
    """The labels of training rows, in the order of their ids."""
    from jaxft.data import vocabulary

    return vocabulary(rows).names


def check_names(rows: Table, labels: Labels) -> None:
    """Refuses a label that training did not know."""
    from jaxft.data import Vocabulary

    Vocabulary(labels).ids(rows)


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import Vocabulary

    return tokens(model, configuration, rows, Vocabulary(labels).ids(rows))


def cross_entropy() -> Objective:
    """Cross-entropy of one label a row, or one a token."""
    from jaxft.objectives import cross_entropy

    return cross_entropy()


def _example(model: Model, configuration: Configuration, rows: int) -> Batch:
    import numpy as np

    return {**random_tokens(model, configuration, rows), "labels": np.zeros(rows, np.int32)}


def _evaluate(learned: Learned, rows: Table, dataset: Dataset) -> dict[str, float]:
    from jaxft.train import evaluate

    return evaluate(learned.model.apply, learned.params, ordered_batches(dataset, learned.configuration))


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    from jaxft.train import predict

    dataset = tokens(learned.model, learned.configuration, rows, None)
    say_cut(dataset, learned.configuration, rows.source)
    logits = predict(learned.model.apply, learned.params, ordered_batches(dataset, learned.configuration))
    for row, found in enumerate(probable(logits, learned.labels)):
        yield texts_of(rows, row) | found


def texts_of(rows: Table, row: int) -> dict[str, Any]:
    """The texts of a row."""
    return {name: rows[name][row] for name in ("text", "text_pair") if name in rows}


def probable(logits: np.ndarray, labels: Labels) -> Iterator[dict[str, Any]]:
    """For each row of logits the likeliest label, and the probability of each."""
    import numpy as np

    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    for probability in exponentials / exponentials.sum(-1, keepdims=True):
        shares = {f"probability_{label}": float(share) for label, share in zip(labels, probability, strict=True)}
        yield {"label": labels[probability.argmax()], **shares}


CLASSIFY = Task(
    name="classify",
    model_task="classify",
    options={"max_length": 128, "pooling": None},
    columns=("text", "text_pair", "label"),
    read=read_texts,
    labels=names,
    check=check_names,
    dataset=_dataset,
    training=training_batches,
    describe=nothing,
    objective=cross_entropy,
    example=_example,
    evaluate=_evaluate,
    figures=FIGURES,
    best=("accuracy", "max"),
    loss="cross-entropy (nats)",
    predict=_predict,
    predicted="labels",
)
