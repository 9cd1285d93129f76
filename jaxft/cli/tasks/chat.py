"""``--task chat``: conversations, of which the replies are learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxft.cli.inputs import training_batches
from jaxft.cli.tasks.classify import cross_entropy
from jaxft.cli.tasks.lm import FIGURES, token_example
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, no_check, no_labels, nothing
from jaxft.cli.tasks.tokens import prompt_batches, token_figures, written
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.data import Dataset, Table
    from jaxft.types import Model

_LONGEST_REPLY = 128


def _read(source: str, labelled: bool) -> Table:
    from jaxft.data import read_table

    del labelled
    return read_table(source, require=("messages",))


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import dialogue

    return dialogue(model.tokenizer, rows, max_length=configuration["max_length"])


def opened(rows: Table) -> list[list[dict[str, str]]]:
    """The conversations up to where a reply is due: without replies at their end.

    Raises:
        InputError: a conversation is no list of messages, or nobody says anything before its first reply.
    """
    found = []
    for row, messages in enumerate(rows["messages"]):
        listed = list(messages) if isinstance(messages, list | tuple) else []
        if not listed or not all(isinstance(message, dict) and "role" in message for message in listed):
            raise InputError(
                f"'messages' must be a list of {{'role': …, 'content': …}}, but {rows.where(row)} has {messages!r:.80}"
            )
        while listed and listed[-1]["role"] == "assistant":
            listed.pop()
        if not listed:
            raise InputError(
                f"there is nothing to reply to in {rows.where(row)}: it has messages of the assistant only"
            )
        found.append(listed)
    return found


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    from jaxft.generation import chat_prompts

    conversations = opened(rows)
    prompts = chat_prompts(learned.model, conversations)
    replies: dict[int, str] = {}
    for places, batch, most in prompt_batches(learned, prompts, _LONGEST_REPLY, rows.where):
        replies |= dict(zip(places, written(learned, [batch], most), strict=True))
    for place, messages in enumerate(conversations):
        yield {"messages": messages, "reply": replies[place]}


CHAT = Task(
    name="chat",
    model_task="lm",
    options={"max_length": 512},
    columns=("messages",),
    read=_read,
    labels=no_labels,
    check=no_check,
    dataset=_dataset,
    training=training_batches,
    describe=nothing,
    objective=cross_entropy,
    example=token_example,
    evaluate=token_figures,
    figures=FIGURES,
    best=("perplexity", "min"),
    loss="cross-entropy of a token (nats)",
    predict=_predict,
    suffixes=(".jsonl",),
    predicted="tokens",
    batch_size=8,
    head=False,
)
