"""Attention in several heads: self and cross, grouped keys, rotary positions, biases and a cache of what was seen.

References:
    Vaswani et al. Attention Is All You Need, 2017.
    Ainslie et al. GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints, 2023.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxft.models.block import Block, Cached, normalised, residual
from jaxft.models.cache import LayerCache
from jaxft.models.layers import Affine, Dropout, dense
from jaxft.models.rotary import Rotary, rotate
from jaxft.models.slots import behind_prefix, find


class Attended(NamedTuple):
    """What attention returns.

    Attributes:
        total: x + what was attended to, ``[batch, queries, dim]``.
        probabilities: ``[batch, heads, queries, keys]``, those of a prefix first.
        cache: of this layer, with the new tokens.
        projections: queries, keys and values of the tokens, ``[batch, heads of each, length, head_dim]``.
    """

    total: Array
    probabilities: Array
    cache: LayerCache | None
    projections: tuple[Array, Array, Array]


class Attention(nn.Module):
    """x + dropout(dense(softmax(s Q Kᵀ + bias) V)), with a norm before it or after the sum.

    Rows that see nothing stay finite.
    """

    block: Block
    cross: bool = False

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array,
        train: bool,
        bias: Array | None = None,
        turn: Rotary | None = None,
        cached: Cached | None = None,
        memory: Array | None = None,
    ) -> Attended:
        """Attends and adds.

        Args:
            x: ``[batch, queries, dim]``.
            mask: ``[batch or 1, 1, queries or 1, keys]`` bool, True where a query may look.
            train: turns dropout on.
            bias: ``[1, heads, queries, keys]``, added to the scores, with columns for the longest prefix first.
            turn: rotary angles of the queries.
            cached: the keys and values of this layer, and the place of the first query among them.
            memory: ``[batch, keys, dim]`` for cross-attention; None there takes what is cached.
        """
        b = self.block
        inputs = normalised(b, x) if b.pre_norm else x
        query = self._heads(inputs, "query", b.heads, turn)
        key, value, cache = self._keys_and_values(inputs, turn, cached, memory)
        projections = query, key, value
        prefix = find(self, "prefix")
        if prefix is not None:
            key, value, mask = behind_prefix(prefix, key, value, mask)
        if bias is not None:
            bias = bias[..., -key.shape[2] :]
        probabilities = _probabilities(b, query, key, mask, bias)
        dropped = Dropout(b.attention_dropout)(probabilities, train)
        mixed = _mix(dropped, value)
        output = dense(mixed, Affine(b.heads * b.head_dim, b.hidden, b.dtype, b.output_bias, name="output"))
        if b.attention_output_dropout is not None:
            b = b._replace(hidden_dropout=b.attention_output_dropout)
        total = residual(b, x, output, train, inputs, find(self, "output"))
        return Attended(total, probabilities, cache, projections)

    def _heads(self, x: Array, name: str, heads: int, turn: Rotary | None) -> Array:
        """``[batch, heads, length, head_dim]``."""
        b = self.block
        flat = dense(x, Affine(x.shape[-1], heads * b.head_dim, b.dtype, b.qkv_bias, name=name))
        split = flat.reshape(*x.shape[:2], heads, b.head_dim)
        if b.query_norm and name != "value":
            split = b.norm_layer(name=f"{name}_norm")(split)
        split = split.transpose(0, 2, 1, 3)
        return split if turn is None or name == "value" else rotate(split, turn)

    def _keys_and_values(
        self, inputs: Array, turn: Rotary | None, cached: Cached | None, memory: Array | None
    ) -> tuple[Array, Array, LayerCache | None]:
        b = self.block
        if self.cross:
            layer = None if cached is None else cached.layer
            if memory is None and layer is not None and layer.cross_key is not None and layer.cross_value is not None:
                return layer.cross_key, layer.cross_value, layer
            assert memory is not None, "cross-attention has neither a memory nor a cache of one"
            key = self._heads(memory, "key", b.kv_heads, None)
            value = self._heads(memory, "value", b.kv_heads, None)
            return key, value, None if layer is None else layer._replace(cross_key=key, cross_value=value)
        key = self._heads(inputs, "key", b.kv_heads, turn)
        value = self._heads(inputs, "value", b.kv_heads, turn)
        if cached is None:
            return key, value, None
        place = (0, 0, cached.place, 0)
        held = cached.layer
        layer = held._replace(
            key=jax.lax.dynamic_update_slice(held.key, key.astype(held.key.dtype), place),
            value=jax.lax.dynamic_update_slice(held.value, value.astype(held.value.dtype), place),
        )
        return layer.key.astype(b.dtype), layer.value.astype(b.dtype), layer


def _probabilities(b: Block, query: Array, key: Array, mask: Array, bias: Array | None) -> Array:
    """Softmax in float32; queries that share a key head are stacked in one product."""
    batch, heads, queries, dim = query.shape
    stacked = query.reshape(batch, key.shape[1], -1, dim)
    scores = jnp.einsum("bhqd,bhkd->bhqk", stacked, key).astype(jnp.float32).reshape(batch, heads, queries, -1)
    scores = scores * b.scale
    if bias is not None:
        scores = scores + bias
    scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    return jax.nn.softmax(scores, axis=-1).astype(b.dtype)


def _mix(probabilities: Array, value: Array) -> Array:
    """``[batch, queries, heads · head_dim]``."""
    batch, heads, queries, keys = probabilities.shape
    stacked = probabilities.reshape(batch, value.shape[1], -1, keys)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", stacked, value).reshape(batch, heads, queries, -1)
    return mixed.transpose(0, 2, 1, 3).reshape(batch, queries, -1)
