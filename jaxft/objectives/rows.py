"""Which rows and tokens of a view count, and the features that a model gives of them."""

from __future__ import annotations

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.task import part_of
from jaxft.types import Array, Batch, Context, Outputs


def rows_that_count(values: Array, mask: Array | None) -> Array:
    """Bools ``[batch]`` for values ``[batch, …]``: all rows unless a mask leaves some out."""
    if mask is None:
        return jnp.ones(values.shape[:1], bool)
    if mask.shape != values.shape[:1]:
        raise InputError(f"expected a mask of one bool for each of {values.shape[0]} rows, but got {list(mask.shape)}")
    return mask.astype(bool)


def mean_of_rows(values: Array, counts: Array) -> Array:
    """The mean of values over the rows, or tokens, that count; zero when none does."""
    return jnp.sum(jnp.where(counts, values, 0.0)) / jnp.maximum(jnp.sum(counts), 1)


def features_of(context: Context, view: str | None, name: str) -> tuple[Array, Array | None]:
    """The features of a view and its mask.

    Raises:
        InputError: the view is not in the batch, or the model gives no features.
    """
    mask = part_of(context.batch, view).get("mask")
    features = context.forward(view).features
    if features is None:
        raise InputError(
            f"{name} reads features [batch, dim], but the model gives none; return Outputs(features=…), what the head "
            "reads, and load models with a pooling"
        )
    return features, mask


def what_counts(part: Batch, values: Array) -> Array:
    """Which rows of values ``[batch, …]`` count; or which tokens of them, where the values are over the view's text."""
    counts = jnp.asarray(part.get("mask", jnp.ones(values.shape[:1], bool)), bool)
    text = part.get("decoder_attention_mask" if "decoder_input_ids" in part else "attention_mask")
    if values.ndim == 3 and text is not None and text.shape == values.shape[:2]:
        counts = counts[:, None] & jnp.asarray(text, bool)
    return counts


def hidden_state(outputs: Outputs, layer: int, whose: str = "model") -> Array:
    """A hidden state by its number, 0 the first, which is that of the embeddings, and -1 the last.

    Args:
        outputs: of a model.
        layer: its number.
        whose: for the message.

    Raises:
        InputError: there is no such layer.

    Example:
        >>> hidden_state(Outputs(hidden_states=(jnp.zeros(2), jnp.ones(2))), -1).tolist()
        [1.0, 1.0]
    """
    states = outputs.hidden_states or ()
    if isinstance(layer, bool) or not isinstance(layer, int) or not -len(states) <= layer < len(states):
        raise InputError(f"the {whose} gives {len(states)} hidden states, so that there is no layer {layer!r}")
    found: Array = states[layer]
    return found
