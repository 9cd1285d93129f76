"""Params as data: every leaf has a path, its keys joined by "/"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from jaxft.errors import InputError, nearest
from jaxft.types import PyTree


def _name(entry: Any) -> str:
    match entry:
        case DictKey(key=key) | FlattenedIndexKey(key=key):
            return str(key)
        case SequenceKey(idx=index):
            return str(index)
        case GetAttrKey(name=name):
            return name
    return str(entry)


def path_string(entries: tuple[Any, ...]) -> str:
    """Joins the key entries of ``jax.tree_util`` into a path."""
    return "/".join(map(_name, entries))


def is_array(node: Any) -> bool:
    """Whether a node of the params is one leaf: an array, a shape that stands for one, or a weight kept in parts."""
    return hasattr(node, "shape") and hasattr(node, "dtype")


def leaf_paths(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """Returns every leaf under its path, in the order of ``jax.tree.leaves``.

    Args:
        tree: any pytree; ``None`` is an empty place, not a leaf.
        is_leaf: stops the descent where it is true, as in ``jax.tree.leaves``.

    Raises:
        InputError: two leaves have one path, as ``{"a/b": x, "a": {"b": y}}`` would.

    Example:
        >>> leaf_paths({"head": {"kernel": 1, "bias": 2}, "norms": (3, 4)})
        {'head/bias': 2, 'head/kernel': 1, 'norms/0': 3, 'norms/1': 4}
    """
    found: dict[str, Any] = {}
    for entries, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)[0]:
        path = path_string(entries)
        if path in found:
            raise InputError(f"two leaves of the tree share the path {path!r}; rename one of the keys")
        found[path] = leaf
    return found


def map_with_path(
    f: Callable[..., Any], tree: PyTree, *rest: PyTree, is_leaf: Callable[[Any], bool] | None = None
) -> PyTree:
    """Maps ``f(path, leaf, ...)`` over a tree, as ``jax.tree.map`` maps ``f(leaf, ...)``.

    Example:
        >>> map_with_path(lambda path, leaf: f"{path}={leaf}", {"a": [1, 2]})
        {'a': ['a/0=1', 'a/1=2']}
    """
    return jax.tree_util.tree_map_with_path(
        lambda entries, *leaves: f(path_string(entries), *leaves), tree, *rest, is_leaf=is_leaf
    )


def replace(tree: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """Returns the tree with the leaves at the given paths replaced.

    Raises:
        InputError: a path is not in the tree.

    Example:
        >>> replace({"head": {"kernel": 1, "bias": 2}}, {"head/bias": 0})
        {'head': {'bias': 0, 'kernel': 1}}
    """
    known = leaf_paths(tree)
    for path in leaves:
        if path not in known:
            raise InputError(f"the tree has no leaf at {path!r}; {nearest(path, known)}")
    return map_with_path(lambda path, leaf: leaves.get(path, leaf), tree)
