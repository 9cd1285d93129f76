"""A selector over a delta whose links are seen as one tree."""

from __future__ import annotations

import itertools

import jax
from jax.tree_util import SequenceKey

from jaxft.trees import leaf_paths, select
from jaxft.trees.paths import path_string
from jaxft.types import Choice, Delta


def chosen_of(choice: Choice, delta: Delta) -> dict[str, bool]:
    """Which leaves of a delta a selector takes, by their paths in the delta.

    Of a chain, whose delta is a tuple, the selector sees all links as one tree: paths are those of the params, without
    the number of the link.

    Raises:
        InputError: the selector matches nothing.

    Example:
        >>> chosen_of("head/**", ({"body": 1.0, "head": None}, {"body": None, "head": {"kernel": 2.0}}))
        {'0/body': False, '1/head/kernel': True}
    """
    inside = {
        path_string(entries): path_string(tuple(itertools.dropwhile(lambda e: isinstance(e, SequenceKey), entries)))
        for entries, _ in jax.tree_util.tree_leaves_with_path(delta)
    }
    chosen = select(choice, {inside[path]: leaf for path, leaf in leaf_paths(delta).items()})
    return {path: chosen[within] for path, within in inside.items()}
