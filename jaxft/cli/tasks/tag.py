"""``--task tag``: lists of words, each word with a tag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxft.cli.inputs import ordered_batches, random_tokens, say_cut, training_batches
from jaxft.cli.tasks.classify import cross_entropy
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, no_check, nothing
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.data import Dataset, Table
    from jaxft.types import Batch, Model


def _read(source: str, labelled: bool) -> Table:
    from jaxft.data import read_table

    rows = read_table(source, require=("words", "tags") if labelled else ("words",))
    for row, words in enumerate(rows["words"]):
        if words is None or isinstance(words, str):
            raise InputError(
                f"'words' must be a list of texts, but {rows.where(row)} holds {words!r}; lists are written as .jsonl"
            )
    return rows


def _labels(rows: Table) -> Labels:
    from jaxft.data import tag_vocabulary

    return tag_vocabulary(rows).names


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import Vocabulary, tag

    return tag(model.tokenizer, rows, max_length=configuration["max_length"], labels=Vocabulary(labels))


def _example(model: Model, configuration: Configuration, rows: int) -> Batch:
    import numpy as np

    batch = random_tokens(model, configuration, rows)
    return {**batch, "labels": np.zeros_like(batch["input_ids"])}


def _evaluate(learned: Learned, rows: Table, dataset: Dataset) -> dict[str, float]:
    from jaxft.train import evaluate

    batches = ordered_batches(dataset, learned.configuration)
    return evaluate(learned.model.apply, learned.params, batches, task="tag", names=learned.labels)


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    from jaxft.data import Vocabulary, tag, word_tags
    from jaxft.train import predict

    dataset = tag(learned.model.tokenizer, rows, max_length=learned.configuration["max_length"], labels=None)
    say_cut(dataset, learned.configuration, rows.source)
    logits = predict(learned.model.apply, learned.params, ordered_batches(dataset, learned.configuration))
    for words, tags in zip(rows["words"], word_tags(dataset, logits, Vocabulary(learned.labels)), strict=True):
        yield {"words": list(words), "tags": tags}


TAG = Task(
    name="tag",
    model_task="tag",
    options={"max_length": 128},
    columns=("words", "tags"),
    read=_read,
    labels=_labels,
    check=no_check,
    dataset=_dataset,
    training=training_batches,
    describe=nothing,
    objective=cross_entropy,
    example=_example,
    evaluate=_evaluate,
    figures=(
        ("f1", "F1 of entities, or of tags that are not BIO"),
        ("precision", "precision"),
        ("recall", "recall"),
        ("accuracy", "accuracy of tags"),
        ("loss", "cross-entropy"),
    ),
    best=("f1", "max"),
    loss="cross-entropy (nats)",
    predict=_predict,
    suffixes=(".jsonl",),
    predicted="tags",
)
