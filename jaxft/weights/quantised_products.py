"""How quantised weights compute: dequantised beside each product, never kept from forward to backward."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import quax
from jax import lax
from jaxtyping import ArrayLike

from jaxft.weights.lookup import find_rows
from jaxft.weights.quantised import BLOCK, Int8, Nf4, level
from jaxft.weights.structured import Structured, bind, materialise


def _product(primitive: Any, *operands: Any, **params: Any) -> Any:
    """Dequantises and multiplies as one rematerialised step: only codes wait for the backward pass."""

    def compute(*operands: Any) -> Any:
        return bind(primitive, *map(_open, operands), **params)

    return jax.checkpoint(compute)(*map(_constant, operands))


def _open(operand: Any) -> Any:
    return materialise(operand) if isinstance(operand, Int8 | Nf4) else operand


def _constant(operand: Any) -> Any:
    return lax.stop_gradient(operand) if isinstance(operand, Int8 | Nf4) else operand


@quax.register(lax.dot_general_p)
def _(lhs: ArrayLike | Structured, rhs: Int8 | Nf4, **params: Any) -> Any:
    return _product(lax.dot_general_p, lhs, rhs, **params)


@quax.register(lax.dot_general_p)
def _(lhs: Int8 | Nf4, rhs: ArrayLike, **params: Any) -> Any:
    return _product(lax.dot_general_p, lhs, rhs, **params)


@quax.register(lax.conv_general_dilated_p)
def _(lhs: ArrayLike, rhs: Int8 | Nf4, **params: Any) -> Any:
    return _product(lax.conv_general_dilated_p, lhs, rhs, **params)


@quax.register(lax.convert_element_type_p)
def _(w: Int8 | Nf4, *, new_dtype: Any, **params: Any) -> Any:
    if not jnp.issubdtype(new_dtype, jnp.floating):
        return Structured.default(lax.convert_element_type_p, (w,), {"new_dtype": new_dtype, **params})
    return dataclasses.replace(w, as_dtype=jnp.dtype(new_dtype))


@quax.register(lax.transpose_p)
def _(w: Nf4, *, permutation: Any) -> Any:
    before = w.order or tuple(range(w.ndim))
    return dataclasses.replace(w, order=tuple(before[axis] for axis in permutation))


@quax.register(lax.gather_p)
def _(operand: Int8, indices: ArrayLike, *, dimension_numbers: Any, slice_sizes: Any, **options: Any) -> Any:
    found = find_rows(operand, indices, dimension_numbers, slice_sizes, {**options, "fill_value": 0})
    rows = found.base.astype(jnp.float32) * found.rows(operand.factor, 1.0)
    if options["mode"] == lax.GatherScatterMode.FILL_OR_DROP:
        # Codes out of range are zero: what is added to them is the fill value, and nothing to the others.
        places = [size if axis == found.axis else 1 for axis, size in enumerate(operand.shape)]
        rows = rows + found.rows(jnp.zeros(places), _fill(options))
    return rows.astype(operand.dtype)


@quax.register(lax.gather_p)
def _(operand: Nf4, indices: ArrayLike, *, dimension_numbers: Any, slice_sizes: Any, **options: Any) -> Any:
    numbers, ndim = dimension_numbers, jnp.ndim(indices) - 1 + len(dimension_numbers.offset_dims)
    whole = (1, *operand.inner[1:]) == tuple(slice_sizes) and numbers.collapsed_slice_dims == (0,)
    behind = numbers.offset_dims == tuple(range(jnp.ndim(indices) - 1, ndim)) and numbers.start_index_map == (0,)
    if operand.stack or operand.order or not whole or not behind:
        params = {"dimension_numbers": numbers, "slice_sizes": slice_sizes, **options}
        return Structured.default(lax.gather_p, (operand, indices), params)
    asked, size = jnp.asarray(indices)[..., 0], math.prod(operand.inner[1:])
    index = jnp.clip(asked, 0, operand.inner[0] - 1)
    element = index[..., None] * size + jnp.arange(size, dtype=index.dtype)
    byte = operand.codes.reshape(-1)[element // 2]
    code = jnp.where(element % 2 == 0, byte & 15, byte >> 4)
    rows = level(code) * operand.maxima()[element // BLOCK]
    if options["mode"] == lax.GatherScatterMode.FILL_OR_DROP:
        rows = jnp.where((asked == index)[..., None], rows, _fill(options))
    return rows.reshape(*asked.shape, *operand.inner[1:]).astype(operand.dtype)


def _fill(options: dict[str, Any]) -> Any:
    return jnp.nan if options["fill_value"] is None else options["fill_value"]


def _rescaled(primitive: Any, w: Int8, factor: Any, params: dict[str, Any]) -> Any:
    if jnp.size(factor) != 1 or jnp.ndim(factor) > w.ndim:
        return Structured.default(primitive, (w, factor), params)
    number = jnp.asarray(factor, jnp.float32).reshape(())
    return dataclasses.replace(w, factor=primitive.bind(w.factor, jnp.broadcast_to(number, w.factor.shape)))


@quax.register(lax.mul_p)
def _(w: Int8, factor: ArrayLike, **params: Any) -> Any:
    return _rescaled(lax.mul_p, w, factor, params)


@quax.register(lax.mul_p)
def _(factor: ArrayLike, w: Int8, **params: Any) -> Any:
    return _rescaled(lax.mul_p, w, factor, params)


@quax.register(lax.div_p)
def _(w: Int8, divisor: ArrayLike, **params: Any) -> Any:
    return _rescaled(lax.div_p, w, divisor, params)


@quax.register(lax.neg_p)
def _(w: Int8) -> Any:
    return dataclasses.replace(w, factor=-w.factor)
