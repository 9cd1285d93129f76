"""What tasks over tokens share: their losses, and texts that a run writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaxft.cli.inputs import buckets
from jaxft.cli.tasks.task import Learned
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.data import Dataset, Table
    from jaxft.types import Batch

_STEP = 16


def token_figures(learned: Learned, rows: Table, dataset: Dataset) -> dict[str, float]:
    """Perplexity, accuracy and cross-entropy of the labels of tokens; logits are large, so batches are small."""
    from jaxft.data import eval_batches
    from jaxft.train import evaluate

    del rows
    size, length = learned.configuration["batch_size"], learned.configuration["max_length"]
    batches = eval_batches(dataset, batch_size=size, lengths=buckets(length))
    return evaluate(learned.model.apply, learned.params, batches, task="lm")


def row_losses(learned: Learned, batches: Iterable[Batch]) -> Iterator[tuple[float, int]]:
    """For each row the sum of −log p over its labels, in nats, and how many there are."""
    from jaxft.train import label_losses

    for losses, labels in label_losses(learned.model.apply, learned.params, batches):
        yield from zip(losses.sum(axis=1).tolist(), (labels >= 0).sum(axis=1).tolist(), strict=True)


def written(learned: Learned, batches: Iterable[Batch], most: int) -> list[str]:
    """The likeliest text that continues, or answers, every real row of batches of prompts.

    Args:
        learned: what writes.
        batches: with ``input_ids`` and ``attention_mask``.
        most: tokens a text may get.
    """
    import numpy as np

    from jaxft.generation import generate

    texts = []
    for batch in batches:
        prompts = {name: batch[name] for name in ("input_ids", "attention_mask")}
        found = generate(learned.model, prompts, params=learned.params, max_new_tokens=most)
        kept = found.lengths - found.stopped
        for row in np.flatnonzero(batch.get("mask", np.ones(len(kept), bool))):
            texts.append(learned.model.tokenizer.decode(found.tokens[row, : kept[row]], skip_special_tokens=True))
    return texts


def prompt_batches(
    learned: Learned, prompts: Sequence[str], most: int, where: Callable[[int], str]
) -> Iterator[tuple[list[int], Batch, int]]:
    """Prompts of a chat template in batches of one room each: their places, their tokens, and how many more they get.

    A long prompt shortens its own reply and nobody else's.

    Args:
        learned: what writes.
        prompts: from the template.
        most: tokens a reply may get.
        where: what a message calls a prompt.

    Raises:
        InputError: a prompt leaves no room for a token.
    """
    from jaxft.generation import encode_prompts

    model, size = learned.model, learned.configuration["batch_size"]
    positions = model.config.max_positions
    rooms: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        tokens = len(model.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if tokens >= positions:
            raise InputError(
                f"the conversation in {where(place)} has {tokens} tokens, which leave no room for a reply in the "
                f"{positions} positions of the model: shorten it"
            )
        room = positions - tokens
        # Every room is a program of its own, so that they are few.
        rooms.setdefault(min(most, room - room % _STEP or room), []).append(place)
    for room, places in rooms.items():
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            yield chosen, encode_prompts(model, [prompts[place] for place in chosen], special=False), room
