"""What the layers of a transformer are built from, and what their sub-layers share: a norm and a residual sum."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.models.cache import LayerCache
from jaxft.models.layers import Dropout, LayerNorm, RMSNorm
from jaxft.models.slots import adapted


class Block(NamedTuple):
    """Sizes, kinds and rates of one layer.

    Attributes:
        hidden: dimension of the residual stream.
        heads: of queries.
        head_dim: of queries, keys and values.
        intermediate: dimension inside the feed-forward.
        kv_heads: of keys and values; each serves heads / kv_heads queries.
        activation: a key of ``ACTIVATION_FUNCTIONS``.
        norm: "layer" or "rms".
        norm_eps: added to the variance.
        pre_norm: norm before each sub-layer, else after its sum.
        scale: of the scores.
        gated: feed-forward f(x W_gate) * (x W_up) in place of f(x W_up).
        qkv_bias: whether queries, keys and values have biases; so for the others.
        query_norm: norm of each head's queries and keys.
        layer_scale: a learned factor for each output of a sub-layer.
        window: tokens that one sees at most; None is all.
        attention_dropout: of the probabilities.
        hidden_dropout: of each sub-layer's output.
        attention_output_dropout: of that of attention; None is hidden_dropout.
        inner_dropout: inside the feed-forward.
        dtype: of computation.
    """

    hidden: int
    heads: int
    head_dim: int
    intermediate: int
    kv_heads: int
    activation: str
    norm_eps: float
    scale: float
    norm: str = "layer"
    pre_norm: bool = False
    gated: bool = False
    qkv_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    query_norm: bool = False
    layer_scale: bool = False
    window: int | None = None
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    attention_output_dropout: float | None = None
    inner_dropout: float = 0.0
    dtype: Any = jnp.float32

    @property
    def norm_layer(self) -> Any:
        """Makes a norm of the layer's kind: ``norm_layer(name=…)``."""
        return functools.partial(RMSNorm if self.norm == "rms" else LayerNorm, self.norm_eps)


class Cached(NamedTuple):
    """What a layer has seen, and the place of the next token."""

    layer: LayerCache
    place: Array


class Scale(nn.Module):
    """x λ with one learned factor a dimension.

    References:
        Touvron et al. Going deeper with Image Transformers, 2021 (LayerScale).
    """

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return x * self.param("scale", nn.initializers.ones, (x.shape[-1],)).astype(x.dtype)


def normalised(block: Block, x: Array) -> Array:
    """The norm of a sub-layer, whose parameters are called ``norm`` wherever it stands."""
    return block.norm_layer(name="norm")(x)


def residual(block: Block, x: Array, output: Array, train: bool, inputs: Array, slots: Mapping[str, Any]) -> Array:
    """x + dropout(λ output), under a norm unless the norm came first; adapters change what is added to x.

    Args:
        block: rates and kinds.
        x: ``[batch, length, dim]``.
        output: of the sub-layer.
        train: turns dropout on.
        inputs: of the sub-layer: x, or its norm.
        slots: the params of the sub-layer's last dense layer.
    """
    if block.layer_scale:
        output = Scale(name="layer_scale")(output)
    total = x + adapted(slots, Dropout(block.hidden_dropout)(output, train), inputs)
    return total if block.pre_norm else normalised(block, total)
