"""How a scaled weight multiplies: its factor is applied to the input or to the output, never to the weight."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import quax
from jax import lax
from jaxtyping import ArrayLike

from jaxft.types import Array
from jaxft.weights.aligned import depends_on
from jaxft.weights.scaled import Scaled
from jaxft.weights.structured import Structured, bind, is_structured


def _spread(w: Scaled, axes: dict[int, int], ndim: int) -> Array:
    """The factor with each axis of W in ``axes`` at its place among ``ndim`` axes."""
    order = sorted(axes, key=axes.__getitem__)
    left = [axis for axis in range(w.ndim) if axis not in axes]
    moved = w.factor.transpose(*order, *left).reshape(*(w.factor.shape[axis] for axis in order))
    places = {axes[axis]: w.factor.shape[axis] for axis in order}
    return moved.reshape(*(places.get(place, 1) for place in range(ndim)))


def _product(x: Any, w: Scaled, dimension_numbers: Any, w_first: bool, params: dict[str, Any]) -> Any:
    (x_contract, w_contract), (x_batch, w_batch) = dimension_numbers
    axes = depends_on(w.factor, w.shape)
    with_x = dict(zip((*w_contract, *w_batch), (*x_contract, *x_batch), strict=True))
    on_input = axes <= with_x.keys() and not is_structured(x)
    if on_input and axes & set(w_contract):
        x = x * _spread(w, with_x, x.ndim).astype(x.dtype)
    if w_first:
        numbers = ((w_contract, x_contract), (w_batch, x_batch))
        y = bind(lax.dot_general_p, w.base, x, dimension_numbers=numbers, **params)
    else:
        y = bind(lax.dot_general_p, x, w.base, dimension_numbers=dimension_numbers, **params)
    if on_input and axes & set(w_contract):
        return y
    if axes & set(w_contract):
        return Structured.default(lax.dot_general_p, (x, w), {"dimension_numbers": dimension_numbers, **params})
    w_free = [axis for axis in range(w.ndim) if axis not in {*w_contract, *w_batch}]
    before = len(w_batch) if w_first else x.ndim - len(x_contract)
    places = {axis: place for place, axis in enumerate(w_batch)} | {
        axis: before + place for place, axis in enumerate(w_free)
    }
    return y * _spread(w, places, y.ndim).astype(y.dtype)


@quax.register(lax.dot_general_p)
def _(lhs: ArrayLike | Structured, rhs: Scaled, *, dimension_numbers: Any, **params: Any) -> Any:
    return _product(lhs, rhs, dimension_numbers, w_first=False, params=params)


@quax.register(lax.dot_general_p)
def _(lhs: Scaled, rhs: ArrayLike, *, dimension_numbers: Any, **params: Any) -> Any:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = dimension_numbers
    flipped = ((rhs_contract, lhs_contract), (rhs_batch, lhs_batch))
    return _product(rhs, lhs, flipped, w_first=True, params=params)


@quax.register(lax.conv_general_dilated_p)
def _(lhs: ArrayLike, rhs: Scaled, *, dimension_numbers: Any, **params: Any) -> Any:
    out_axis, in_axis = dimension_numbers.rhs_spec[:2]
    axes = depends_on(rhs.factor, rhs.shape)
    everything = {"dimension_numbers": dimension_numbers, **params}
    grouped = params["feature_group_count"] != 1
    if params["batch_group_count"] != 1 or not (axes <= {out_axis} or (axes == {in_axis} and not grouped)):
        return Structured.default(lax.conv_general_dilated_p, (lhs, rhs), everything)
    x = jnp.asarray(lhs)
    if axes == {in_axis}:
        x = x * _spread(rhs, {in_axis: dimension_numbers.lhs_spec[1]}, x.ndim).astype(x.dtype)
    y = bind(lax.conv_general_dilated_p, x, rhs.base, **everything)
    if axes == {in_axis}:
        return y
    return y * _spread(rhs, {out_axis: dimension_numbers.out_spec[1]}, y.ndim).astype(y.dtype)
