"""On-policy distillation: a student learns on what it writes itself."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxft.errors import InputError
from jaxft.generation.generate import generate
from jaxft.models.slots import taken
from jaxft.types import Batch, Key, Model, Params

_IGNORED = -100


def on_policy(
    student: Model,
    batch: Batch,
    *,
    key: Key,
    share: float = 0.5,
    temperature: float = 1.0,
    params: Params | None = None,
) -> dict[str, Any]:
    """The batch with what the student writes now in the place of some of its replies; for the teacher's judgement.

    In the paper's words λ of the data is the student's. No gradient goes through the drawing of the tokens: call this
    between steps, on the host, with the params of the moment, and give `gkd` what it returns. A reply ends at the
    student's stop token, where the row is full, or where the model has no more positions behind the longest prompt.

    Args:
        student: of `load_model`, with task="lm".
        batch: ``input_ids`` and ``attention_mask [batch, length]``, and ``labels`` of the same shape, the token after
            each one, with -100 in the prompt: as of `data.dialogue` or a text with a masked prompt.
        key: of the draws.
        share: λ in [0, 1], the probability of a row to be replaced.
        temperature: of the draws; 0 takes the likeliest token.
        params: the student's now, bound; its own if None.

    Raises:
        InputError: a column is missing or of another shape, a row without a prompt or reply, a share out of range, or
            a model that writes no text.

    Example:
        >>> import jaxft as ft
        >>> model = ft.load_model("smollm2", task="lm")
        >>> row = np.array([model.tokenizer("The capital of France is Rome. It is")["input_ids"]])
        >>> labels = np.concatenate([np.full((1, 4), -100), row[:, 5:], [[-100]]], axis=1)
        >>> batch = {"input_ids": row, "attention_mask": np.ones_like(row), "labels": labels}
        >>> new = on_policy(model, batch, key=jax.random.key(0), share=1.0, temperature=0.0)
        >>> model.tokenizer.decode(new["input_ids"][0][:6])
        'The capital of France is Paris'

    References:
        Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", 2023.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share of the student's own replies is between 0 and 1, but is {share}")
    ids, mask, labels = _columns(batch)
    row_key, draw_key = jax.random.split(key)
    chosen = np.flatnonzero(np.asarray(jax.random.uniform(row_key, (len(ids),))) < share)
    found = {**batch, "input_ids": ids.copy(), "attention_mask": mask.copy(), "labels": labels.copy()}
    if not len(chosen):
        return found
    lengths = _prompts(labels[chosen], mask[chosen], chosen)
    places = np.arange(ids.shape[1])
    seen = (places < lengths[:, None]).astype(np.int32)
    slots = taken(student.params if params is None else params)
    positions = student.config.max_positions - slots.prompt - slots.decoder
    written = generate(
        student,
        {"input_ids": ids[chosen], "attention_mask": seen},
        max_new_tokens=max(1, min(ids.shape[1] - int(lengths.min()), positions - int(lengths.max()))),
        temperature=temperature,
        key=draw_key,
        params=params,
    )
    for place, row in enumerate(chosen):
        start = int(lengths[place])
        reply = written.tokens[place][: min(int(written.lengths[place]), ids.shape[1] - start)]
        end = start + len(reply)
        found["input_ids"][row, start:end] = reply
        found["input_ids"][row, end:] = 0
        found["attention_mask"][row] = places < end
        found["labels"][row] = _IGNORED
        found["labels"][row, start - 1 : end - 1] = reply
    return found


def _columns(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    missing = [name for name in ("input_ids", "attention_mask", "labels") if name not in batch]
    if missing:
        raise InputError(f"on_policy needs {', '.join(missing)} beside {', '.join(batch) or 'nothing'}")
    ids, mask, labels = (np.asarray(batch[name]) for name in ("input_ids", "attention_mask", "labels"))
    if ids.ndim != 2 or ids.shape != mask.shape or ids.shape != labels.shape:
        raise InputError(
            "on_policy expects input_ids, attention_mask and labels of one shape [batch, length], but they are "
            f"{list(ids.shape)}, {list(mask.shape)} and {list(labels.shape)}"
        )
    if "segment_ids" in batch:
        raise InputError("on_policy expects one text a row, but these are packed: cut them into rows of one text")
    return ids, mask, labels


def _prompts(labels: np.ndarray, mask: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How many tokens of each row are its prompt: those up to the first whose label counts."""
    counts = (labels != _IGNORED) & (mask > 0)
    if empty := rows[~counts.any(axis=1)].tolist():
        raise InputError(f"row {empty[0] + 1} of the batch has no reply: all its labels are {_IGNORED}")
    first: np.ndarray = counts.argmax(axis=1)
    return first + 1
