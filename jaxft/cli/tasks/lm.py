"""``--task lm``: texts, or prompts with completions that alone are learned, packed into full rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.cli.inputs import buckets, random_tokens, say_cut, training_batches
from jaxft.cli.tasks.classify import cross_entropy
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, no_check, no_labels
from jaxft.cli.tasks.tokens import row_losses, token_figures
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.data import Dataset, Table
    from jaxft.types import Batch, Model

FIGURES = (("perplexity", "perplexity"), ("accuracy", "accuracy of tokens"), ("loss", "cross-entropy of a token"))


def _read(source: str, labelled: bool) -> Table:
    from jaxft.data import read_table

    del labelled
    if source.lower().endswith(".txt"):
        return _documents(Path(source))
    rows = read_table(source, require=())
    rows.require(*(("prompt", "completion") if "prompt" in rows and "text" not in rows else ("text",)))
    return rows


def read_texts(source: str) -> Table:
    """The texts of a table, or the documents of a plain text file."""
    from jaxft.data import read_table

    if source.lower().endswith(".txt"):
        return _documents(Path(source))
    return read_table(source, require=("text",))


def _documents(path: Path) -> Table:
    """The documents of a plain text file: what stands between blank lines."""
    from jaxft.data import Table

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}): save the file as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    documents = [part.strip() for part in re.split(r"\n[^\S\n]*\n", text) if part.strip()]
    if not documents:
        raise InputError(f"{path} is empty; expected texts with blank lines between them")
    return Table.of({"text": documents}, str(path))


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import pack, prompts

    length = configuration["max_length"]
    if "text" in rows:
        return pack(model.tokenizer, rows, length=length)
    return prompts(model.tokenizer, rows, max_length=length, length=length)


def _describe(dataset: Dataset) -> str:
    from jaxft.data import fill_rate

    return f"packed into {len(dataset):,} rows of {dataset.max_length} tokens, {fill_rate(dataset):.1%} of them filled"


def token_example(model: Model, configuration: Configuration, rows: int) -> Batch:
    """Random tokens with a label each."""
    batch = random_tokens(model, configuration, rows)
    return {**batch, "labels": batch["input_ids"]}


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    from jaxft.data import eval_batches, language_modelling, prompts
    from jaxft.metrics import perplexity

    length, size = learned.configuration["max_length"], learned.configuration["batch_size"]
    columns = ("text",) if "text" in rows else ("prompt", "completion")
    dataset = (language_modelling if "text" in rows else prompts)(learned.model.tokenizer, rows, max_length=length)
    say_cut(dataset, learned.configuration, rows.source)
    batches = eval_batches(dataset, batch_size=size, lengths=buckets(length))
    for row, (nll, tokens) in enumerate(row_losses(learned, batches)):
        texts = {name: rows[name][row] for name in columns}
        yield {**texts, "perplexity": perplexity(nll, tokens) if tokens else None, "tokens": tokens}


LM = Task(
    name="lm",
    model_task="lm",
    options={"max_length": 256},
    columns=("text", "prompt", "completion"),
    read=_read,
    labels=no_labels,
    check=no_check,
    dataset=_dataset,
    training=training_batches,
    describe=_describe,
    objective=cross_entropy,
    example=token_example,
    evaluate=token_figures,
    figures=FIGURES,
    best=("perplexity", "min"),
    loss="cross-entropy of a token (nats)",
    predict=_predict,
    predicted="tokens",
    batch_size=8,
    head=False,
)
