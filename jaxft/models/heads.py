"""From hidden states to one vector a row, and from that vector to logits."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxft.models.config import ModelConfig
from jaxft.models.layers import Affine, Dropout, dense


def pool(config: ModelConfig, dtype: Any, hidden: Array, visible: Array) -> Array:
    """What the head reads, in float32.

    "mean" is Σ_t m_t h_t / max(Σ_t m_t, 1) with m the attention mask; "cls" is tanh(h_0 W + b), BERT's pooler.
    Called inside the model's ``__call__``, whose parameters it adds to.

    Args:
        config: gives the pooling.
        dtype: type of computation of the pooler.
        hidden: the last hidden states [batch, length, dim].
        visible: [batch, length] bool.

    Returns:
        [batch, dim]
    """
    if config.pooling == "cls":
        pooler = Affine(config.hidden_size, config.hidden_size, config.initializer_range, dtype, name="pooler")
        return jnp.tanh(dense(hidden[:, 0], pooler)).astype(jnp.float32)
    weights = visible[..., None].astype(jnp.float32)
    return (hidden.astype(jnp.float32) * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1)


def head(config: ModelConfig, features: Array, train: bool) -> Array:
    """Logits [batch, num_labels]: dropout and a dense layer, in float32 whatever the encoder computes in."""
    dropped = Dropout(config.head_dropout)(features, train)
    return dense(dropped, Affine(config.hidden_size, config.num_labels, config.initializer_range, name="head"))
