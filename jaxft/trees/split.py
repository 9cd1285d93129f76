"""Split and join: freezing as data."""

from __future__ import annotations

from typing import Any

import jax

from jaxft.errors import InputError
from jaxft.trees.paths import is_array, map_with_path
from jaxft.trees.select import select
from jaxft.types import Choice, Params, PyTree


def split(params: Params, selector: Choice) -> tuple[PyTree, PyTree]:
    """Splits params in two trees of their structure, each with None where the other has the leaf.

    Args:
        params: any nesting of dicts, lists, tuples and registered nodes.
        selector: a glob, or any function from params to a mask.

    Returns:
        ``(chosen, rest)``.

    Raises:
        InputError: the selector matches nothing.

    Example:
        >>> chosen, rest = split({"encoder": {"kernel": 1}, "head": {"kernel": 2}}, "head/**")
        >>> chosen, rest
        ({'encoder': {'kernel': None}, 'head': {'kernel': 2}}, {'encoder': {'kernel': 1}, 'head': {'kernel': None}})
        >>> join(chosen, rest)
        {'encoder': {'kernel': 1}, 'head': {'kernel': 2}}
    """
    return partition(params, select(selector, params))


def partition(params: Params, mask: PyTree) -> tuple[PyTree, PyTree]:
    """Splits params by a mask that is at hand already."""
    chosen = jax.tree.map(lambda leaf, take: leaf if take else None, params, mask, is_leaf=is_array)
    rest = jax.tree.map(lambda leaf, take: None if take else leaf, params, mask, is_leaf=is_array)
    return chosen, rest


def join(chosen: PyTree, rest: PyTree) -> Params:
    """Undoes ``split``: takes every leaf from the tree that has it.

    Where ``chosen`` has None, ``rest`` may hold a whole sub-tree, such as a structured weight.

    Raises:
        InputError: both trees have a leaf at one path, or their structures differ.

    Example:
        >>> join({"a": 1, "b": None}, {"a": None, "b": (2, 3)})
        {'a': 1, 'b': (2, 3)}
    """

    def take(path: str, ours: Any, theirs: Any) -> Any:
        if ours is not None and theirs is not None:
            raise InputError(f"both trees have a leaf at {path!r}; join expects the two halves of one split")
        return theirs if ours is None else ours

    try:
        return map_with_path(take, chosen, rest, is_leaf=lambda leaf: leaf is None)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"join expects the two halves of one split, but their structures differ: {error}") from None
