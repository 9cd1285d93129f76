"""Small dicts in a tree that belong together, found by their keys."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from jaxft.trees.paths import leaf_paths
from jaxft.types import PyTree


def is_node(tree: Any, keys: Collection[str]) -> bool:
    """Whether a tree is a dict with just these keys."""
    return isinstance(tree, dict) and tree.keys() == set(keys)


def nodes(tree: PyTree, keys: Collection[str]) -> dict[str, dict[str, Any]]:
    """Every dict in a tree that has just these keys, under its path.

    Example:
        >>> nodes({"query": {"kernel": {"a": 1, "b": 2}, "bias": 3}}, {"a", "b"})
        {'query/kernel': {'a': 1, 'b': 2}}
    """
    found = leaf_paths(tree, is_leaf=lambda part: is_node(part, keys))
    return {path: part for path, part in found.items() if is_node(part, keys)}
