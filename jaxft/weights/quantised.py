"""Weights kept in few bits: int8 by output channel, and NormalFloat of four bits by block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.types import Array
from jaxft.weights.aligned import Aligned
from jaxft.weights.structured import Structured

BLOCK, GROUP = 64, 256
"""Elements that share an absmax, and absmaxes that share one of theirs, as in QLoRA."""
NF4_LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""NormalFloat of four bits: quantiles of a normal distribution scaled to [-1, 1], zero among them."""


class Int8(Aligned):
    """C·f, whole numbers from -127 to 127 and a factor for each output channel.

    Attributes:
        base: C, int8, of the shape of W.
        factor: f in float32, of size one on input axes.
        as_dtype: the type W had, in which it computes.
    """

    factor: Array
    as_dtype: Any = eqx.field(static=True)
    extra: ClassVar[Mapping[str, int]] = {"factor": 0}

    @property
    def kind(self) -> str:
        """What the weight is, in a word or two."""
        return "int8"

    def aval(self) -> Any:
        """Shape of the codes, and the dtype of W."""
        return jax.core.ShapedArray(self.base.shape, self.as_dtype)

    def materialise(self) -> Array:
        """C·f, computed in float32 and returned in the dtype of W."""
        return (self.base.astype(jnp.float32) * self.factor).astype(self.as_dtype)


class Nf4(Structured):
    """Levels by code times the absmax of each block of 64 elements, two codes a byte.

    Attributes:
        codes: ``[*stack, blocks, 32]`` uint8: the low four bits of a byte come first.
        absmax: ``[*stack, blocks]`` float32; quantised itself, ``[*stack, groups, 256]`` int8.
        factor: ``[*stack, groups]`` float32 of a quantised absmax, or None.
        mean: ``[*stack]`` float32 that was taken from the absmax before it was quantised, or None.
        inner: the shape of W without its stacked axes.
        as_dtype: the type W had, in which it computes.
        order: a transposition of all axes of W that is still to be done, or None.
    """

    codes: Array
    absmax: Array
    factor: Array | None
    mean: Array | None
    inner: tuple[int, ...] = eqx.field(static=True)
    as_dtype: Any = eqx.field(static=True)
    order: tuple[int, ...] | None = eqx.field(static=True, default=None)

    @property
    def kind(self) -> str:
        """What the weight is, in a word or two."""
        return "nf4"

    def is_stack(self) -> bool:
        """Whether cutting every part along its first axis cuts W along its first axis."""
        return bool(self.stack) and self.order is None

    @property
    def stack(self) -> tuple[int, ...]:
        """The sizes of the stacked axes."""
        return self.codes.shape[:-2]

    def aval(self) -> Any:
        """Shape and dtype of W."""
        shape = (*self.stack, *self.inner)
        return jax.core.ShapedArray(tuple(shape[i] for i in self.order or range(len(shape))), self.as_dtype)

    def maxima(self) -> Array:
        """The absmax of each block, ``[*stack, blocks]``."""
        if self.factor is None or self.mean is None:
            return self.absmax
        wide = self.absmax.astype(jnp.float32) * self.factor[..., None] + self.mean[..., None, None]
        return wide.reshape(*self.stack, -1)[..., : self.codes.shape[-2]]

    def materialise(self) -> Array:
        """Level times absmax, computed in float32 and returned in the dtype of W."""
        pairs = jnp.asarray(_pairs())[self.codes].reshape(*self.stack, -1, BLOCK)
        whole = pairs * self.maxima()[..., None]
        whole = whole.reshape(*self.stack, -1)[..., : math.prod(self.inner)].reshape(*self.stack, *self.inner)
        return (whole if self.order is None else whole.transpose(self.order)).astype(self.as_dtype)


def int8(w: Array, *, inputs: tuple[int, ...]) -> Int8:
    """Rounds a weight to 8 bits, symmetrically for each output channel: f = max |W| / 127 over the inputs.

    Args:
        w: floats of any shape.
        inputs: the axes that share a factor.

    Example:
        >>> w = int8(jnp.array([[1.27, 0.0], [-0.5, 0.0]]), inputs=(0,))
        >>> w.base.tolist(), w.materialise().dtype
        ([[127, 0], [-50, 0]], dtype('float32'))

    References:
        Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", 2022.
    """
    codes, factor = _int8_codes(w.astype(jnp.float32), inputs)
    return Int8(base=codes, factor=factor, as_dtype=jnp.dtype(w.dtype))


def nf4(w: Array, *, stacked: int = 0, double: bool = False) -> Nf4:
    """Rounds a weight to NormalFloat of 4 bits, in blocks of 64 elements in row-major order.

    Args:
        w: ``[*stack, *inner]`` floats.
        stacked: how many leading axes stack weights that are quantised one by one.
        double: whether the absmaxes are quantised too: less their mean, to int8 in blocks of 256.

    Raises:
        InputError: the weight has no element.

    Example:
        >>> w = nf4(jnp.linspace(-1, 1, 128).reshape(2, 64))
        >>> w.codes.shape, w.absmax.shape
        ((2, 32), (2,))

    References:
        Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023.
    """
    if not w.size:
        raise InputError(f"nf4 expects a weight with at least one element, but its shape is {list(w.shape)}")
    stack, inner = w.shape[:stacked], w.shape[stacked:]
    blocks = _in_blocks(w.astype(jnp.float32).reshape(*stack, -1), BLOCK)
    absmax = jnp.max(jnp.abs(blocks), axis=-1)
    levels = np.asarray(NF4_LEVELS, np.float32)
    unit = blocks / jnp.where(absmax > 0, absmax, 1)[..., None]
    codes = jnp.searchsorted((levels[1:] + levels[:-1]) / 2, unit).astype(jnp.uint8)
    packed = codes[..., 0::2] | codes[..., 1::2] << 4
    factor = mean = None
    if double:
        mean = jnp.mean(absmax, axis=-1)
        absmax, wide = _int8_codes(_in_blocks(absmax - mean[..., None], GROUP), (-1,))
        factor = wide[..., 0]
    return Nf4(packed, absmax, factor, mean, inner, jnp.dtype(w.dtype))


def level(code: Array) -> Array:
    """The NormalFloat of each code, in float32."""
    return jnp.asarray(NF4_LEVELS, jnp.float32)[code]


def _pairs() -> np.ndarray:
    """The two levels of each byte, ``[256, 2]``: looking both up at once takes half the time."""
    levels, byte = np.asarray(NF4_LEVELS, np.float32), np.arange(256)
    return np.stack([levels[byte & 15], levels[byte >> 4]], axis=-1)


def _int8_codes(w: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    factor = jnp.max(jnp.abs(w), axis=axes, keepdims=True) / 127
    return jnp.round(w / jnp.where(factor > 0, factor, 1)).astype(jnp.int8), factor


def _in_blocks(flat: Array, size: int) -> Array:
    """``[..., n]`` in blocks ``[..., blocks, size]``, the last filled up with zeros."""
    short = -flat.shape[-1] % size
    padded = jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, short)])
    return padded.reshape(*flat.shape[:-1], -1, size)
