"""The parts encoders are made of, as Flax Linen modules over plain parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


def gelu(x: Array) -> Array:
    """x Φ(x) = x / 2 · (1 + erf(x / √2)): as Hugging Face writes it, and a third of the time of the form with erfc."""
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATION_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
"""By the name Hugging Face gives them."""


class Affine(nn.Module):
    """The kernel [inputs, outputs] and bias [outputs] of a dense layer, for :func:`dense`."""

    inputs: int
    outputs: int
    init_std: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        kernel = self.param("kernel", nn.initializers.normal(self.init_std), (self.inputs, self.outputs))
        bias = self.param("bias", nn.initializers.zeros, (self.outputs,))
        return cast(kernel, self.dtype), cast(bias, self.dtype)


def dense(x: Array, affine: Affine) -> Array:
    """y = x W + b over ``[rows, inputs]``: one flat matrix product, which CPUs run faster than a batched one."""
    kernel, bias = affine()
    return x @ kernel + bias


class Table(nn.Module):
    """Rows of a learned table by index."""

    rows: int
    size: int
    init_std: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, index: Array) -> Array:
        embedding = self.param("embedding", nn.initializers.normal(self.init_std), (self.rows, self.size))
        return cast(jnp.take(embedding, index, axis=0), self.dtype)


class LayerNorm(nn.Module):
    """(x − mean) / sqrt(var + eps) · scale + bias over the last axis, in float32 whatever the input."""

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.eps) * scale + bias).astype(x.dtype)


def keep_mask(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    """True with probability 1 - ``rate``, from 16 random bits an element: half the generator's work."""
    words = jax.random.bits(key, (*shape[:-1], -(-shape[-1] // 2)), jnp.uint32)
    threshold = round(rate * 2**16)
    halves = jnp.concatenate([words & 0xFFFF, words >> 16], axis=-1)
    return halves[..., : shape[-1]] >= threshold


class Dropout(nn.Module):
    """Zeroes each element with probability ``rate`` and scales the rest by 1 / (1 − rate), in training only."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        if not train or self.rate == 0:
            return x
        return jnp.where(keep_mask(self.make_rng("dropout"), self.rate, x.shape), x / (1 - self.rate), 0).astype(
            x.dtype
        )


class SelfAttention(nn.Module):
    """LayerNorm(x + dropout(dense(softmax(Q Kᵀ / √d) V))) in several heads; rows that see nothing stay finite."""

    heads: int
    norm_eps: float
    attention_dropout: float
    hidden_dropout: float
    init_std: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, visible: Array, train: bool) -> tuple[Array, Array]:
        """``x`` [batch·length, dim], ``visible`` [batch, length] bool -> (output like ``x``, probabilities)."""
        batch, length = visible.shape
        size = x.shape[-1]

        def affine(name: str) -> Affine:
            return Affine(size, size, self.init_std, self.dtype, name=name)

        def split(name: str) -> Array:
            flat = dense(x, affine(name))
            return flat.reshape(batch, length, self.heads, size // self.heads).transpose(0, 2, 1, 3)

        query, key, value = split("query"), split("key"), split("value")
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key).astype(jnp.float32) / math.sqrt(size // self.heads)
        scores = jnp.where(visible[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
        probabilities = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        dropped = Dropout(self.attention_dropout)(probabilities, train)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", dropped, value).transpose(0, 2, 1, 3).reshape(batch * length, size)
        output = dense(mixed, affine("output"))
        return LayerNorm(self.norm_eps, name="norm")(x + Dropout(self.hidden_dropout)(output, train)), probabilities


class FeedForward(nn.Module):
    """LayerNorm(x + dropout(f(x W_up + b) W_down + b))."""

    size: int
    activation: str
    norm_eps: float
    hidden_dropout: float
    init_std: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        size = x.shape[-1]
        up = dense(x, Affine(size, self.size, self.init_std, self.dtype, name="up"))
        activated = ACTIVATION_FUNCTIONS[self.activation](up)
        down = dense(activated, Affine(self.size, size, self.init_std, self.dtype, name="down"))
        return LayerNorm(self.norm_eps, name="norm")(x + Dropout(self.hidden_dropout)(down, train))


def cast(x: Array, dtype: Any) -> Array:
    """``x`` in another type; nothing at all when it has it, so that no rule for casts is asked for."""
    return x if x.dtype == dtype else x.astype(dtype)
