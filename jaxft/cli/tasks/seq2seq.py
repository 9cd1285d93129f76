"""``--task seq2seq``: texts, each with the text to write for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxft.cli.inputs import buckets, random_tokens, training_batches
from jaxft.cli.tasks.classify import cross_entropy
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, no_check, no_labels, nothing
from jaxft.cli.tasks.tokens import token_figures, written

if TYPE_CHECKING:
    from jaxft.data import Dataset, EvalBatches, Table
    from jaxft.types import Batch, Model


def _read(source: str, labelled: bool) -> Table:
    from jaxft.data import read_table

    return read_table(source, require=("text", "target") if labelled else ("text",))


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import seq2seq

    config = model.config
    return seq2seq(
        model.tokenizer,
        rows,
        max_length=configuration["max_length"],
        max_target_length=configuration["max_target_length"],
        start_token=config.decoder_start_token,
        end_token=config.eos_token,
    )


def _example(model: Model, configuration: Configuration, rows: int) -> Batch:
    import numpy as np

    source = random_tokens(model, configuration, rows)
    ids = source["input_ids"][:, : configuration["max_target_length"]]
    target = {"decoder_input_ids": ids, "decoder_attention_mask": np.ones_like(ids), "labels": ids}
    return {**source, **target}


def _sources(learned: Learned, rows: Table) -> EvalBatches:
    from jaxft.data import eval_batches, tokenise

    configuration = learned.configuration
    dataset = tokenise(learned.model.tokenizer, rows, max_length=configuration["max_length"])
    return eval_batches(dataset, batch_size=configuration["batch_size"], lengths=buckets(configuration["max_length"]))


def _written(learned: Learned, rows: Table) -> list[str]:
    return written(learned, _sources(learned, rows), learned.configuration["max_target_length"])


def _evaluate(learned: Learned, rows: Table, dataset: Dataset) -> dict[str, float]:
    from jaxft.metrics import rouge_metrics

    figures = token_figures(learned, rows, dataset)
    first = rows.take(range(min(len(rows), learned.configuration["generate_rows"])))
    return figures | rouge_metrics(_written(learned, first), first["target"]) if len(first) else figures


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    for text, found in zip(rows["text"], _written(learned, rows), strict=True):
        yield {"text": text, "generated": found}


SEQ2SEQ = Task(
    name="seq2seq",
    model_task="seq2seq",
    options={"max_length": 256, "max_target_length": 64, "generate_rows": 100},
    columns=("text", "target"),
    read=_read,
    labels=no_labels,
    check=no_check,
    dataset=_dataset,
    training=training_batches,
    describe=nothing,
    objective=cross_entropy,
    example=_example,
    evaluate=_evaluate,
    figures=(
        ("perplexity", "perplexity"),
        ("rouge1", "ROUGE-1"),
        ("rouge2", "ROUGE-2"),
        ("rougeL", "ROUGE-L"),
        ("accuracy", "accuracy of tokens"),
        ("loss", "cross-entropy of a token"),
    ),
    best=("perplexity", "min"),
    loss="cross-entropy of a token (nats)",
    predict=_predict,
    predicted="tokens",
    batch_size=8,
    head=False,
)
