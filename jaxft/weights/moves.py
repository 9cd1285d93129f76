"""Operations that move, cut, cast or scale a weight and leave it in its parts."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import quax
from jax import lax
from jaxtyping import ArrayLike

from jaxft.types import Array
from jaxft.weights.aligned import Aligned
from jaxft.weights.structured import Structured, bind


@quax.register(lax.transpose_p)
def _(w: Aligned, *, permutation: Any) -> Any:
    base = bind(lax.transpose_p, w.base, permutation=permutation)
    return w.move(base, lambda part, extra: part.transpose(*permutation, *range(w.ndim, w.ndim + extra)))


@quax.register(lax.squeeze_p)
def _(w: Aligned, *, dimensions: Any) -> Any:
    base = bind(lax.squeeze_p, w.base, dimensions=dimensions)
    return w.move(base, lambda part, extra: jnp.squeeze(part, dimensions))


@quax.register(lax.slice_p)
def _(w: Aligned, *, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    base = bind(lax.slice_p, w.base, start_indices=start_indices, limit_indices=limit_indices, strides=strides)
    cuts = [
        slice(start, limit, stride)
        for start, limit, stride in zip(start_indices, limit_indices, strides or (1,) * w.ndim, strict=True)
    ]

    def move(part: Array, extra: int) -> Array:
        return part[tuple(cut if part.shape[i] == w.shape[i] else slice(None) for i, cut in enumerate(cuts))]

    return w.move(base, move)


@quax.register(lax.dynamic_slice_p)
def _(w: Aligned, *indices: ArrayLike, slice_sizes: Any) -> Any:
    base = bind(lax.dynamic_slice_p, w.base, *indices, slice_sizes=slice_sizes)

    def move(part: Array, extra: int) -> Array:
        full = [part.shape[i] == w.shape[i] for i in range(w.ndim)]
        starts = [index if full[i] else jnp.zeros_like(index) for i, index in enumerate(indices)]
        sizes = [size if full[i] else 1 for i, size in enumerate(slice_sizes)]
        return lax.dynamic_slice(part, (*starts, *(0,) * extra), (*sizes, *part.shape[w.ndim :]))

    return w.move(base, move)


@quax.register(lax.broadcast_in_dim_p)
def _(w: Aligned, *, shape: Any, broadcast_dimensions: Any, sharding: Any) -> Any:
    if math.prod(shape) != w.size:
        params = {"shape": shape, "broadcast_dimensions": broadcast_dimensions, "sharding": sharding}
        return Structured.default(lax.broadcast_in_dim_p, (w,), params)
    return bind(lax.reshape_p, w, new_sizes=tuple(shape), dimensions=None, sharding=None)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Pairs the fewest neighbouring axes of two shapes of one size whose products agree."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        left, right = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(left), j + len(right)
        while (a := math.prod(old[k] for k in left)) != (b := math.prod(new[k] for k in right)):
            if a < b:
                left, i = [*left, i], i + 1
            else:
                right, j = [*right, j], j + 1
        groups.append((left, right))
    return groups


@quax.register(lax.reshape_p)
def _(w: Aligned, *, new_sizes: Any, dimensions: Any, sharding: Any) -> Any:
    params = {"new_sizes": new_sizes, "dimensions": dimensions, "sharding": sharding}
    parts = w.parts().values()
    groups = _groups(w.shape, tuple(new_sizes)) if w.size and dimensions is None else []

    def sizes(part: Array) -> list[int] | None:
        """The new shape of a part, or None when a group of axes merges some that it depends on with others."""
        result = []
        for left, right in groups:
            whole = [w.shape[i] for i in left]
            ours = [part.shape[i] for i in left]
            if ours != whole and any(size != 1 for size in ours):
                return None
            result += [new_sizes[j] if ours == whole else 1 for j in right]
        return result

    if not groups or any(sizes(part) is None for part in parts):
        return Structured.default(lax.reshape_p, (w,), params)
    base = bind(lax.reshape_p, w.base, **params)
    return w.move(base, lambda part, extra: part.reshape(*(sizes(part) or ()), *part.shape[w.ndim :]))


@quax.register(lax.convert_element_type_p)
def _(w: Aligned, *, new_dtype: Any, **params: Any) -> Any:
    if not jnp.issubdtype(new_dtype, jnp.floating):
        return Structured.default(lax.convert_element_type_p, (w,), {"new_dtype": new_dtype, **params})
    base = bind(lax.convert_element_type_p, w.base, new_dtype=new_dtype, **params)
    return w.cast(base, new_dtype)


def _times(primitive: Any, w: Aligned, factor: Any, params: dict[str, Any]) -> Any:
    if jnp.size(factor) != 1 or jnp.ndim(factor) > w.ndim:
        return Structured.default(primitive, (w, factor), params)

    def by_factor(scale: Array) -> Array:
        return primitive.bind(scale, jnp.broadcast_to(jnp.asarray(factor, scale.dtype).reshape(()), scale.shape))

    return w.rescale(bind(primitive, w.base, factor), by_factor)


@quax.register(lax.mul_p)
def _(w: Aligned, factor: ArrayLike, **params: Any) -> Any:
    return _times(lax.mul_p, w, factor, params)


@quax.register(lax.mul_p)
def _(factor: ArrayLike, w: Aligned, **params: Any) -> Any:
    return _times(lax.mul_p, w, factor, params)


@quax.register(lax.div_p)
def _(w: Aligned, divisor: ArrayLike, **params: Any) -> Any:
    return _times(lax.div_p, w, divisor, params)


@quax.register(lax.neg_p)
def _(w: Aligned) -> Any:
    return w.rescale(bind(lax.neg_p, w.base), jnp.negative)
