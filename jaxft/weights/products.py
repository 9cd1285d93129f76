"""How a low-rank weight multiplies: x·W + s (x·A)·B, in matrix products and convolutions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import quax
from jax import lax
from jaxtyping import ArrayLike

from jaxft.errors import InputError
from jaxft.types import Array
from jaxft.weights.lowrank import LowRank
from jaxft.weights.structured import Structured, bind, is_structured, lift


def kept_axes(part: Array, shape: tuple[int, ...]) -> tuple[Array, list[int]]:
    """Drops the axes a factor does not depend on; returns it with the names (numbers) of those it keeps."""
    kept = [axis for axis, size in enumerate(shape) if part.shape[axis] == size]
    return part.reshape(*(part.shape[axis] for axis in kept), part.shape[-1]), [*kept, len(shape)]


def _dropped(x: Any, w: LowRank) -> Any:
    """Applies the dropout of the branch to its input."""
    if w.key is None or w.rate is None:
        return x
    if is_structured(x):
        raise InputError("dropout on a low-rank branch expects an array as its input, but got a structured weight")
    rate = w.rate.reshape(-1)[0]
    keep = jax.random.bernoulli(w.key.reshape(-1)[0], 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate).astype(x.dtype), jnp.zeros((), x.dtype))


def _branch(x: Any, x_axes: list[int], w: LowRank, contracted: set[int], out_axes: list[int], options: Any) -> Array:
    """Contracts x with A and B one after the other, the factor on the contracted side first."""
    first, first_axes = kept_axes(w.a, w.shape)
    second, second_axes = kept_axes(w.scaled_b(), w.shape)
    if contracted & set(second_axes) and not contracted & set(first_axes):
        first, first_axes, second, second_axes = second, second_axes, first, first_axes
    needed = {*second_axes, *out_axes}
    between = [axis for axis in dict.fromkeys((*x_axes, *first_axes)) if axis in needed]

    def contract(x: Array) -> Array:
        inner = jnp.einsum(x, x_axes, first, first_axes, between, **options)
        return jnp.einsum(inner, between, second, second_axes, out_axes, **options)

    return lift(contract)(_dropped(x, w))


def _product(x: Any, w: LowRank, dimension_numbers: Any, w_first: bool, params: dict[str, Any]) -> Array:
    (x_contract, w_contract), (x_batch, w_batch) = dimension_numbers
    named = {
        **dict(zip(x_contract, w_contract, strict=True)),
        **dict(zip(x_batch, w_batch, strict=True)),
    }
    x_axes = [named.get(axis, w.ndim + 1 + axis) for axis in range(x.ndim)]
    x_free = [name for name in x_axes if name > w.ndim]
    w_free = [axis for axis in range(w.ndim) if axis not in {*w_contract, *w_batch}]
    out_axes = [*w_batch, *w_free, *x_free] if w_first else [*w_batch, *x_free, *w_free]
    if w_first:
        whole = ((w_contract, x_contract), (w_batch, x_batch))
        base = bind(lax.dot_general_p, w.base, x, dimension_numbers=whole, **params)
    else:
        base = bind(lax.dot_general_p, x, w.base, dimension_numbers=dimension_numbers, **params)
    options = {key: params[key] for key in ("precision", "preferred_element_type") if params.get(key) is not None}
    return base + _branch(x, x_axes, w, set(w_contract), out_axes, options).astype(base.dtype)


@quax.register(lax.dot_general_p)
def _(lhs: ArrayLike | Structured, rhs: LowRank, *, dimension_numbers: Any, **params: Any) -> Any:
    return _product(lhs, rhs, dimension_numbers, w_first=False, params=params)


@quax.register(lax.dot_general_p)
def _(lhs: LowRank, rhs: ArrayLike, *, dimension_numbers: Any, **params: Any) -> Any:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    flipped = ((rhs_contract, lhs_contract), (rhs_batch, lhs_batch))
    return _product(rhs, lhs, flipped, w_first=True, params=params)


@quax.register(lax.conv_general_dilated_p)
def _(lhs: ArrayLike, rhs: LowRank, *, dimension_numbers: Any, **params: Any) -> Any:
    out_axis, out_feature = dimension_numbers.rhs_spec[0], dimension_numbers.out_spec[1]
    factor, axes = kept_axes(rhs.scaled_b(), rhs.shape)
    crossed = rhs.a.shape[out_axis] > 1 or any(rhs.shape[axis] > 1 for axis in axes[:-1] if axis != out_axis)
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1 or crossed:
        return Structured.default(
            lax.conv_general_dilated_p, (lhs, rhs), {"dimension_numbers": dimension_numbers, **params}
        )
    base = bind(lax.conv_general_dilated_p, lhs, rhs.base, dimension_numbers=dimension_numbers, **params)
    kernel = jnp.swapaxes(rhs.a, out_axis, -1)[..., 0]
    inner = lax.conv_general_dilated_p.bind(_dropped(lhs, rhs), kernel, dimension_numbers=dimension_numbers, **params)
    branch = jnp.moveaxis(
        jnp.tensordot(inner, factor.reshape(-1, rhs.rank), axes=(out_feature, 1), precision=params["precision"]),
        -1,
        out_feature,
    )
    return base + branch.astype(base.dtype)
