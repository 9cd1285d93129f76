"""What low-rank methods share: the weights they are given, and the branch beside each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxft.adapt.layout import Layout, layout
from jaxft.adapt.options import check_patterns, is_zero
from jaxft.trees import leaf_paths, map_with_path, select
from jaxft.types import Array, Choice, Delta, Key, Params, PyTree
from jaxft.weights import is_structured, low_rank


class Site(NamedTuple):
    """A weight that a method adapts, and a key of its own."""

    path: str
    leaf: Any
    layout: Layout
    key: Key


class Branch(NamedTuple):
    """A·B times a scale, with A ``[*stack, *in, rank]`` and B ``[*stack, rank, *out]``."""

    a: Array
    b: Array
    scale: float | Array
    stack: int


def sites(
    selector: Choice,
    params: Params,
    key: Key,
    *,
    method: str,
    axes: str | Mapping[str, str] | None,
    **options: Any,
) -> dict[str, Site]:
    """The selected weights by path.

    Args:
        selector: of the weights.
        params: whose leaves may be structured weights.
        key: folded with the number of each weight among those selected.
        method: that asks, for the message of an error.
        axes: see `layout`.
        **options: settings whose patterns must each match a weight.

    Raises:
        InputError: the selector or a pattern matches nothing, or the axes of a weight are not known.
    """
    chosen = [path for path, take in leaf_paths(select(selector, params)).items() if take]
    for name, option in (*options.items(), ("axes", axes)):
        check_patterns(option, chosen, name)
    leaves = leaf_paths(params, is_leaf=is_structured)
    return {
        path: Site(path, leaves[path], layout(path, leaves[path], axes, method), jax.random.fold_in(key, index))
        for index, path in enumerate(chosen)
    }


def laid_out(params: Params, found: Mapping[str, PyTree]) -> PyTree:
    """A tree laid out as the params, with what was found for a path there and None elsewhere."""
    return map_with_path(lambda path, _: found.get(path), params, is_leaf=is_structured)


def attach(
    params: Params,
    delta: Delta,
    branch: Callable[[str, Any, Any], Branch],
    *,
    key: Key | None = None,
    dropout: float | Array = 0.0,
) -> Params:
    """Puts a low-rank branch beside each weight that has parts in the delta.

    Args:
        params: laid out as the delta.
        delta: trained parts at the path of their weight, None elsewhere.
        branch: ``branch(path, weight, parts)`` of one weight.
        key: randomness of the dropout; None turns it off.
        dropout: rate in [0, 1) on the input of every branch.
    """
    count = iter(range(len(leaf_paths(delta))))

    def adapt(path: str, leaf: Any, parts: Any) -> Any:
        if parts is None:
            return leaf
        made = branch(path, leaf, parts)
        return low_rank(
            leaf,
            made.a,
            made.b,
            scale=made.scale,
            batch_axes=made.stack,
            key=None if key is None or is_zero(dropout) else jax.random.fold_in(key, next(count)),
            dropout=dropout,
        )

    return map_with_path(adapt, params, delta, is_leaf=lambda leaf: leaf is None or is_structured(leaf))
