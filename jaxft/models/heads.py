"""From hidden states to what a task asks for: one vector a row, and logits of it or of every token."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxft.models.layers import ACTIVATION_FUNCTIONS, Affine, Dropout, dense


def pool(pooling: str, hidden: Array, visible: Array) -> Array:
    """One vector a row, ``[batch, dim]`` in float32.

    "mean" is Σ_t m_t h_t / max(Σ_t m_t, 1) with m the attention mask, "cls" and "first" the first token and "last" the
    last that is no padding.

    Args:
        pooling: which of them.
        hidden: the last hidden states ``[batch, length, dim]``.
        visible: ``[batch, length]`` bool.
    """
    hidden = hidden.astype(jnp.float32)
    if pooling in ("cls", "first"):
        return hidden[:, 0]
    if pooling == "last":
        places = jnp.arange(hidden.shape[1]) * visible
        return jnp.take_along_axis(hidden, places.max(axis=1)[:, None, None], axis=1)[:, 0]
    weights = visible[..., None].astype(jnp.float32)
    return (hidden * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1)


def pooler(features: Array, activation: str, dtype: Any = jnp.float32) -> Array:
    """f(x W + b) of the first token, in float32: the dense layer between an encoder and its classifier."""
    size = features.shape[-1]
    inner = dense(features.astype(dtype), Affine(size, size, dtype, name="pooler"))
    return ACTIVATION_FUNCTIONS[activation](inner).astype(jnp.float32)


def head(features: Array, outputs: int, dropout: float, train: bool, *, use_bias: bool = True) -> Array:
    """Logits ``[..., outputs]``: dropout and a dense layer, in float32 whatever the encoder computes in."""
    dropped = Dropout(dropout)(features.astype(jnp.float32), train)
    return dense(dropped, Affine(features.shape[-1], outputs, use_bias=use_bias, name="head"))
