"""How weights in parts are looked up as tables: each part by the same rows as the base."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import quax
from jax import lax
from jaxtyping import ArrayLike

from jaxft.types import Array
from jaxft.weights.aligned import Aligned
from jaxft.weights.lowrank import LowRank
from jaxft.weights.products import kept_axes
from jaxft.weights.scaled import Scaled
from jaxft.weights.structured import Structured, bind


class Lookup(NamedTuple):
    """A look-up of whole rows along one axis of a weight.

    Attributes:
        base: what the base gives.
        axis: that is looked up.
        shape: of the weight.
        indices: as the primitive has them.
        numbers: its dimension numbers.
        options: its other parameters.
    """

    base: Any
    axis: int
    shape: tuple[int, ...]
    indices: Any
    numbers: Any
    options: dict[str, Any]

    def rows(self, part: Array, fill: float) -> Array:
        """The rows of a part, or a part that does not depend on the axis, in the result's axes.

        Args:
            part: with the weight's axes, and perhaps more behind them.
            fill: what stands for rows out of range, where the base has its fill value already.
        """
        base, shape, axis = self.base, self.shape, self.axis
        if part.shape[axis] != shape[axis]:
            offsets = iter(size for i, size in enumerate(part.shape[: len(shape)]) if i != axis)
            places = [next(offsets) if i in self.numbers.offset_dims else 1 for i in range(base.ndim)]
            return part.reshape(*places, *part.shape[len(shape) :])
        numbers = self.numbers._replace(
            offset_dims=(*self.numbers.offset_dims, *range(base.ndim, base.ndim + part.ndim - len(shape)))
        )
        sizes = tuple(1 if i == axis else size for i, size in enumerate(part.shape))
        options = {**self.options, "fill_value": fill}
        return lax.gather_p.bind(part, self.indices, dimension_numbers=numbers, slice_sizes=sizes, **options)


def find_rows(
    operand: Aligned, indices: ArrayLike, dimension_numbers: Any, slice_sizes: Any, options: dict[str, Any]
) -> Lookup:
    """Looks the base of a weight up, for rules that do the same with its parts.

    Raises:
        MissingRuleError: the look-up is not of whole rows along one axis.
    """
    collapsed, shape = dimension_numbers.collapsed_slice_dims, operand.shape
    whole = all(size == shape[axis] for axis, size in enumerate(slice_sizes) if axis not in collapsed)
    params = {"dimension_numbers": dimension_numbers, "slice_sizes": slice_sizes, **options}
    if len(collapsed) != 1 or collapsed != dimension_numbers.start_index_map or not whole:
        Structured.default(lax.gather_p, (operand, indices), params)
    base = bind(lax.gather_p, operand.base, indices, **params)
    return Lookup(base, collapsed[0], shape, indices, dimension_numbers, options)


@quax.register(lax.gather_p)
def _(operand: Scaled, indices: ArrayLike, *, dimension_numbers: Any, slice_sizes: Any, **options: Any) -> Any:
    found = find_rows(operand, indices, dimension_numbers, slice_sizes, options)
    return found.base * found.rows(operand.factor, 1.0).astype(found.base.dtype)


@quax.register(lax.gather_p)
def _(operand: LowRank, indices: ArrayLike, *, dimension_numbers: Any, slice_sizes: Any, **options: Any) -> Any:
    found = find_rows(operand, indices, dimension_numbers, slice_sizes, options)
    axis, shape, base = found.axis, found.shape, found.base
    a_elsewhere = any(size > 1 for i, size in enumerate(operand.a.shape[:-1]) if i != axis)
    if operand.a.shape[axis] == shape[axis] == operand.b.shape[axis] and (shape[axis] > 1 or a_elsewhere):
        key = None if operand.key is None else jnp.take(operand.key, jnp.ravel(indices)[0], axis=axis)
        rate = None if operand.rate is None else jnp.take(operand.rate, jnp.ravel(indices)[0], axis=axis)
        ones = [1] * base.ndim
        return LowRank(
            base=base,
            a=found.rows(operand.a, 0),
            b=found.rows(operand.b, 0),
            scale=found.rows(operand.scale, 0),
            key=None if key is None else key.reshape(-1)[:1].reshape(ones),
            rate=None if rate is None else rate.reshape(-1)[:1].reshape(ones),
        )
    a, a_axes = kept_axes(found.rows(operand.a, 0), base.shape)
    b, b_axes = kept_axes(found.rows(operand.scaled_b(), 0), base.shape)
    return base + jnp.einsum(a, a_axes, b, b_axes, list(range(base.ndim))).astype(base.dtype)
