"""Layers of attention and feed-forward, one after another: the body of every transformer here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
from jax import Array

from jaxft.models.attention import Attended, Attention
from jaxft.models.block import Block, Cached, normalised, residual
from jaxft.models.cache import LayerCache
from jaxft.models.layers import ACTIVATION_FUNCTIONS, Affine, Dropout, dense
from jaxft.models.rotary import Rotary
from jaxft.models.slots import find


class Memory(NamedTuple):
    """What a decoder reads beside its own tokens.

    Attributes:
        states: ``[batch, source length, dim]``; None once the cache holds their keys and values.
        mask: ``[batch, 1, 1, source length]`` bool.
    """

    states: Array | None
    mask: Array


class FeedForward(nn.Module):
    """x + dropout(f(x W_up + b) W_down + b), or gated, f(x W_gate) * (x W_up); a norm before it or after the sum."""

    block: Block

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        b = self.block
        inputs = normalised(b, x) if b.pre_norm else x
        up = dense(inputs, Affine(b.hidden, b.intermediate, b.dtype, b.mlp_bias, name="up"))
        function = ACTIVATION_FUNCTIONS[b.activation]
        if b.gated:
            inner = function(dense(inputs, Affine(b.hidden, b.intermediate, b.dtype, b.mlp_bias, name="gate"))) * up
        else:
            inner = function(up)
        inner = Dropout(b.inner_dropout)(inner, train)
        down = dense(inner, Affine(b.intermediate, b.hidden, b.dtype, b.mlp_bias, name="down"))
        return residual(b, x, down, train, inputs, find(self, "down"))


class Layer(nn.Module):
    """Self-attention, cross-attention where there is a memory, and feed-forward."""

    block: Block

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array,
        train: bool,
        bias: Array | None = None,
        turn: Rotary | None = None,
        cached: Cached | None = None,
        memory: Memory | None = None,
    ) -> Attended:
        own = Attention(self.block, name="attention")(x, mask, train, bias, turn, cached)
        if memory is not None:
            cross = Attention(self.block, cross=True, name="cross_attention")
            seen = cached if cached is None or own.cache is None else cached._replace(layer=own.cache)
            other = cross(own.total, memory.mask, train, None, None, seen, memory.states)
            own = own._replace(total=other.total, cache=other.cache)
        return own._replace(total=FeedForward(self.block, name="feed_forward")(own.total, train))


class Stack(NamedTuple):
    """What a stack of layers returns: every state, the input first, and of each layer what its attention returns."""

    states: tuple[Array, ...]
    attentions: tuple[Array, ...]
    layers: tuple[LayerCache, ...]
    projections: tuple[tuple[Array, Array, Array], ...]


class Layers(nn.Module):
    """``layer_0``, ``layer_1``, …: to be called inside the module whose parameters they are."""

    blocks: Sequence[Block]
    remat: bool = False

    @nn.compact
    def __call__(
        self,
        x: Array,
        masks: Sequence[Array],
        train: bool,
        *,
        bias: Array | None = None,
        turn: Rotary | None = None,
        caches: Sequence[Cached] | None = None,
        memory: Memory | None = None,
    ) -> Stack:
        """Runs the layers.

        Args:
            x: ``[batch, length, dim]``.
            masks: one for each layer, or one for all.
            train: turns dropout on.
            bias: of the scores of every self-attention.
            turn: rotary angles.
            caches: one a layer.
            memory: what cross-attention reads.
        """
        kind = nn.remat(Layer, static_argnums=(3,)) if self.remat else Layer
        states, found = [x], list[Attended]()
        for index, block in enumerate(self.blocks):
            cached = None if caches is None else caches[index]
            mask = masks[index if len(masks) > 1 else 0]
            found.append(kind(block, name=f"layer_{index}")(states[-1], mask, train, bias, turn, cached, memory))
            states.append(found[-1].total)
        return Stack(
            tuple(states),
            tuple(one.probabilities for one in found),
            tuple(one.cache for one in found if one.cache is not None),
            tuple(one.projections for one in found),
        )
