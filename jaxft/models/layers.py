"""The smallest parts of every model, as Flax Linen modules over plain parameters."""

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


def gelu_tanh(x: Array) -> Array:
    """x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATION_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
"""By the name Hugging Face gives them."""


class Affine(nn.Module):
    """The kernel [inputs, outputs] and bias [outputs] or None of a dense layer, for :func:`dense`."""

    inputs: int
    outputs: int
    dtype: Any = jnp.float32
    use_bias: bool = True

    @nn.compact
    def __call__(self) -> tuple[Array, Array | None]:
        kernel = cast(self.param("kernel", nn.initializers.zeros, (self.inputs, self.outputs)), self.dtype)
        if not self.use_bias:
            return kernel, None
        return kernel, cast(self.param("bias", nn.initializers.zeros, (self.outputs,)), self.dtype)


def dense(x: Array, layer: Affine) -> Array:
    """y = x W + b over ``[..., inputs]``: one flat matrix product, which CPUs run faster than a batched one."""
    return affine(x, *layer())


def affine(x: Array, kernel: Array, bias: Array | None) -> Array:
    """So of the arrays themselves."""
    y = x.reshape(-1, x.shape[-1]) @ kernel
    return (y if bias is None else y + bias).reshape(*x.shape[:-1], kernel.shape[1])


class Table(nn.Module):
    """Rows of a learned table by index."""

    rows: int
    size: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.embedding = self.param("embedding", nn.initializers.zeros, (self.rows, self.size))

    def __call__(self, index: Array) -> Array:
        return cast(jnp.take(self.embedding, index, axis=0), self.dtype)

    def attend(self, x: Array) -> Array:
        """x Eᵀ: how well each row of the table answers ``[..., size]`` -> ``[..., rows]``."""
        y = x.reshape(-1, self.size) @ cast(self.embedding, self.dtype).T
        return y.reshape(*x.shape[:-1], self.rows)


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


class RMSNorm(nn.Module):
    """x / sqrt(mean x² + eps) · scale over the last axis, in float32 whatever the input.

    References:
        Zhang, Sennrich. Root Mean Square Layer Normalization, 2019.
    """

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        wide = x.astype(jnp.float32)
        variance = jnp.square(wide).mean(axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(variance + self.eps) * scale).astype(x.dtype)


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


def cast(x: Array, dtype: Any) -> Array:
    """``x`` in another type; nothing at all when it has it, so that no rule for casts is asked for."""
    return x if x.dtype == dtype else x.astype(dtype)
