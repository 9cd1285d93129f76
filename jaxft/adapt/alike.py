"""Several trees of one structure: what must agree before they are averaged or stacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError, nearest
from jaxft.trees import leaf_paths
from jaxft.types import Array, PyTree
from jaxft.weights import is_structured


def check_alike(trees: Sequence[PyTree], what: str, *, dtypes: bool = False) -> None:
    """Refuses trees that differ in structure or shapes, by path, or that hold weights in parts.

    Args:
        trees: at least one; the first is what the others are compared with.
        what: the trees are called in the message, such as "trees to average".
        dtypes: whether types must agree too.

    Raises:
        InputError: there is no tree, or they do not fit together.

    Example:
        >>> check_alike([{"a": jnp.ones(2)}, {"a": jnp.zeros(2)}], "trees to average")
    """
    if not trees:
        raise InputError(f"at least one of the {what} is needed, but none is given")
    leaves = [leaf_paths(tree, is_leaf=is_structured) for tree in trees]
    for path, leaf in leaves[0].items():
        if is_structured(leaf):
            raise InputError(
                f"the {what} must be plain arrays, but {path!r} is a {type(leaf).__name__} weight; "
                "call jaxft.merge first"
            )
    for index, other in enumerate(leaves[1:], start=2):
        for one, two, which in ((leaves[0], other, f"number {index} lacks"), (other, leaves[0], "the first lacks")):
            if missing := [path for path in one if path not in two]:
                raise InputError(
                    f"the {what} must have one structure, but {which} {missing[0]!r}; {nearest(missing[0], two)}"
                )
        for path, leaf in leaves[0].items():
            found = other[path]
            if jnp.shape(found) != jnp.shape(leaf) or (dtypes and found.dtype != leaf.dtype):
                raise InputError(
                    f"the {what} must have the same shapes, but {path!r} is {_kind(leaf, dtypes)} in the first and "
                    f"{_kind(found, dtypes)} in number {index}"
                )


def map_floats(f: Callable[..., Array], first: PyTree, *others: PyTree) -> PyTree:
    """Maps ``f`` over the leaves in float32 and gives back the type of the first; other leaves stay the first's.

    Example:
        >>> map_floats(jnp.add, {"w": jnp.ones(1), "ids": jnp.arange(2)}, {"w": jnp.ones(1), "ids": jnp.zeros(2, int)})
        {'ids': Array([0, 1], dtype=int32), 'w': Array([2.], dtype=float32)}
    """

    def one(leaf: Array, *rest: Array) -> Array:
        if not is_float(leaf):
            return leaf
        return f(*(part.astype(jnp.float32) for part in (leaf, *rest))).astype(leaf.dtype)

    return jax.tree.map(one, first, *others)


def is_float(leaf: Array) -> bool:
    """Whether a leaf can be averaged."""
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.floating))


def one_each(weights: Any, count: int, what: str) -> list[Any]:
    """One weight for each of several trees, from one number or as many.

    Raises:
        InputError: there are more or fewer.

    Example:
        >>> one_each(0.5, 2, "models")
        [0.5, 0.5]
    """
    if not isinstance(weights, Sequence) and jnp.ndim(weights) == 0:
        return [weights] * count
    factors = list(weights)
    if len(factors) != count:
        raise InputError(f"one weight for each of the {count} {what} is expected, but {len(factors)} are given")
    return factors


def _kind(leaf: Array, dtypes: bool) -> str:
    return f"{jnp.result_type(leaf).name if dtypes else ''}{list(jnp.shape(leaf))}"
