"""The names by which a person selects among what learns: paths in the params, whichever link of a chain learns them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxft.trees import leaf_paths, map_with_path, select
from jaxft.types import Choice, Delta, Mask, PyTree


def delta_names(delta: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, str]:
    """The name of every leaf of a delta by its path: the path without the indices of the links of chains.

    The delta of a chain is a tuple, so that a tuple at its top counts as links. So is what a chain keeps beside the
    frozen params.

    Args:
        delta: or what an adaptation keeps.
        is_leaf: stops the descent where it is true, as in ``jax.tree.leaves``.

    Example:
        >>> delta_names(({"query": {"a": 1, "b": 2}}, {"head": 3}))
        {'0/query/a': 'query/a', '0/query/b': 'query/b', '1/head': 'head'}
    """
    if type(delta) is not tuple:
        return {path: path for path in leaf_paths(delta, is_leaf)}
    return {
        f"{index}/{path}" if path else str(index): name
        for index, link in enumerate(delta)
        for path, name in delta_names(link, is_leaf).items()
    }


def select_named(selector: Choice, delta: Delta) -> Mask:
    """Applies a selector to what learns, by name.

    Raises:
        InputError: the selector matches none of the names; the nearest are said.

    Example:
        >>> select_named("query/**", ({"query": {"a": 1, "b": 2}}, {"head": 3}))
        ({'query': {'a': True, 'b': True}}, {'head': False})
    """
    names, leaves = delta_names(delta), leaf_paths(delta)
    chosen = select(selector, {name: leaves[path] for path, name in names.items()})
    return map_with_path(lambda path, _: chosen[names[path]], delta)
