"""Objectives over the tokens of a text: where an answer lies, and what comes next."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.task import accuracy, labelled, no_state, over, part_of, softmax_cross_entropy, which_count
from jaxft.types import Array, Batch, Context, Memory, Metrics, Objective, Outputs

_IGNORED = -100


def span_cross_entropy(view: str | None = None) -> Objective:
    """Mean of the cross-entropies of the first and the last token of an answer.

    L = ½ (mean −log p_start(first) + mean −log p_end(last)),  p over the tokens of the row

    The accuracy it logs is the share of rows with both ends right. Positions whose ``attention_mask`` is 0 have no
    probability, so a label there gives an infinite loss.

    Args:
        view: name of the labelled part of the batch: ``labels [batch, 2]``, -100 in a row without an answer, and, where
            there are any, ``attention_mask [batch, length]`` and ``mask [batch]``. The logits are ``[batch, length,
            2]``.

    Raises:
        InputError: the view is not in the batch or has no labels, or the shapes are others.

    Example:
        >>> import jax
        >>> batch = {"labels": jnp.array([[0, 1]]), "attention_mask": jnp.array([[1, 1, 1, 1, 0]])}
        >>> context = Context(lambda view=None: Outputs(logits=jnp.zeros((1, 5, 2))), batch, (), 0, jax.random.key(0))
        >>> span_cross_entropy().apply((), (), (), context)[0]
        Array(1.3862944, dtype=float32)

    References:
        Seo et al., "Bidirectional Attention Flow for Machine Comprehension", 2017.
        Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        part = labelled(context.batch, view)
        logits, labels, mask = context.forward(view).logits, part["labels"], part.get("mask")
        if logits.ndim != 3 or logits.shape[-1] != 2 or labels.shape != (len(logits), 2):
            raise InputError(
                f"span cross-entropy expects logits [batch, length, 2] and labels [batch, 2], but logits are "
                f"{list(logits.shape)} and labels {list(labels.shape)}"
            )
        ends = jnp.moveaxis(logits.astype(jnp.float32), -1, 1)
        if "attention_mask" in part:
            ends = jnp.where(part["attention_mask"][:, None].astype(bool), ends, -jnp.inf)
        losses = [softmax_cross_entropy(ends[:, end], labels[:, end], mask=mask) for end in (0, 1)]
        counts = which_count(labels, mask, _IGNORED).all(axis=1)
        both = ((jnp.argmax(ends, axis=-1) == labels) & counts[:, None]).all(axis=1)
        right = jnp.sum(both) / jnp.maximum(jnp.sum(counts), 1)
        return (losses[0] + losses[1]) / 2, (memory, {"accuracy": right})

    return Objective(no_state, apply)


def next_token(view: str | None = None) -> Objective:
    """Cross-entropy of each token of the text given those before it; it needs no labels.

    L = mean over t of −log p(x_{t+1} | x_1 … x_t)

    Reads ``token_logits``, or ``logits`` where a model has no others. A token counts where it and the next are text by
    ``attention_mask`` and of one document by ``segment_ids``. Beside a task, with weight ½, it is the recipe of GPT:
    ``combine(task=cross_entropy(), lm=(next_token(), 0.5))``.

    Args:
        view: name of the part of the batch: ``input_ids [batch, length]`` and, where there are any, ``attention_mask``
            and ``segment_ids`` of that shape and ``mask [batch]``.

    Raises:
        InputError: the view is not in the batch or has no tokens, or the model gives no logits for each of them.

    Example:
        >>> import jax
        >>> batch = {"input_ids": jnp.array([[5, 3, 0]]), "attention_mask": jnp.array([[1, 1, 0]])}
        >>> context = Context(lambda view=None: Outputs(logits=jnp.zeros((1, 3, 8))), batch, (), 0, jax.random.key(0))
        >>> next_token().apply((), (), (), context)[0]
        Array(2.0794415, dtype=float32)

    References:
        Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        part = part_of(context.batch, view)
        if "input_ids" not in part:
            raise InputError(f"next_token learns from input_ids, but the batch has only {sorted(part)}; add them")
        labels = _shifted(part)
        logits = _token_logits(context.forward(view), labels.shape)
        found = accuracy(logits, labels, labels != _IGNORED)
        return softmax_cross_entropy(logits, labels), (memory, {"accuracy": found})

    return Objective(no_state, apply)


def _shifted(part: Batch) -> Array:
    """The token after each one, or -100 where there is none to predict."""
    tokens = jnp.asarray(part["input_ids"])
    text = jnp.ones(tokens.shape, bool)
    if "attention_mask" in part:
        text &= jnp.asarray(part["attention_mask"]).astype(bool)
    if "mask" in part:
        text &= over(part["mask"], tokens.shape)
    both = text[:, :-1] & text[:, 1:]
    if "segment_ids" in part:
        segments = jnp.asarray(part["segment_ids"])
        both &= (segments[:, :-1] == segments[:, 1:]) & (segments[:, 1:] > 0)
    return jnp.pad(jnp.where(both, tokens[:, 1:], _IGNORED), ((0, 0), (0, 1)), constant_values=_IGNORED)


def _token_logits(outputs: Outputs, shape: tuple[int, ...]) -> Array:
    logits = outputs.logits if outputs.token_logits is None else outputs.token_logits
    if logits is None or logits.shape[:-1] != shape:
        found = "none" if logits is None else str(list(logits.shape))
        raise InputError(
            f"next_token expects logits [batch, length, vocabulary] for tokens {list(shape)}, but the model's are "
            f"{found}: load one that predicts tokens beside its task"
        )
    return logits
