"""BERT as Flax Linen modules, equal to Hugging Face transformers' in every hidden state.

References:
    Devlin, Chang, Lee, Toutanova. BERT: Pre-training of Deep Bidirectional Transformers, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.models.config import ModelConfig
from jaxft.models.heads import head, pool
from jaxft.models.layers import Dropout, FeedForward, LayerNorm, SelfAttention, Table
from jaxft.types import Outputs


class Bert(nn.Module):
    """The encoder with pooling and, unless the task is "features", a head."""

    config: ModelConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Array], train: bool = False) -> Outputs:
        c = self.config
        ids = batch["input_ids"]
        visible = jnp.asarray(batch.get("attention_mask", jnp.ones_like(ids)), bool)
        x = Embeddings(c, self.dtype, name="embeddings")(ids, batch.get("token_type_ids"), train)
        states, attentions = Encoder(c, self.dtype, self.remat, name="encoder")(x, visible, train)
        features = pool(c, self.dtype, states[-1], visible)
        logits = head(c, features, train) if c.num_labels else None
        return Outputs(logits=logits, features=features, hidden_states=states, attentions=attentions)


class Embeddings(nn.Module):
    """LayerNorm(word + position + token type), then dropout."""

    config: ModelConfig
    dtype: Any

    @nn.compact
    def __call__(self, ids: Array, token_types: Array | None, train: bool) -> Array:
        c = self.config

        def table(rows: int, name: str) -> Table:
            return Table(rows, c.hidden_size, c.initializer_range, self.dtype, name=name)

        # Positions, and token types when nobody names them, are the same for every row: they are looked up once.
        kinds = jnp.zeros((1, 1), jnp.int32) if token_types is None else token_types
        x = table(c.vocab_size, "word")(ids)
        x = x + table(c.token_types, "token_type")(kinds)
        x = x + table(c.max_positions, "position")(jnp.arange(ids.shape[1])[None])
        return Dropout(c.hidden_dropout)(LayerNorm(c.norm_eps, name="norm")(x), train)


class Encoder(nn.Module):
    """The layers, one after another; returns every hidden state and attention."""

    config: ModelConfig
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, x: Array, visible: Array, train: bool) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        shape = x.shape
        layer = nn.remat(Layer, static_argnums=(3,)) if self.remat else Layer
        states, attentions = [x], []
        x = x.reshape(-1, shape[-1])
        for index in range(self.config.num_layers):
            x, attention = layer(self.config, self.dtype, name=f"layer_{index}")(x, visible, train)
            states.append(x.reshape(shape))
            attentions.append(attention)
        return tuple(states), tuple(attentions)


class Layer(nn.Module):
    """Self-attention and feed-forward, each with dropout, a residual sum and LayerNorm."""

    config: ModelConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, visible: Array, train: bool) -> tuple[Array, Array]:
        c = self.config
        attention = SelfAttention(
            c.num_heads,
            c.norm_eps,
            c.attention_dropout,
            c.hidden_dropout,
            c.initializer_range,
            self.dtype,
            name="attention",
        )
        feed_forward = FeedForward(
            c.intermediate_size,
            c.activation,
            c.norm_eps,
            c.hidden_dropout,
            c.initializer_range,
            self.dtype,
            name="feed_forward",
        )
        x, probabilities = attention(x, visible, train)
        return feed_forward(x, train), probabilities
