"""What an adaptation would do to every leaf, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax

from jaxft.adapt.kept import open_kept
from jaxft.adapt.narrow import Held
from jaxft.trees import Row, Summary, leaf_paths
from jaxft.types import Adaptation, Delta, Params, PyTree
from jaxft.weights import LowRank, Scaled, is_structured


def summary(adaptation: Adaptation, params: Params, optimizer: Any = None) -> Summary:
    """Tabulates path, shape, role, parameters, bytes and optimizer bytes of every leaf.

    Nothing is computed: shapes are enough. Leaves that the adaptation adds to the params have rows too. What learns
    and stands at no path of the adapted params, such as layers that compute them, follows, as "trained beside". Arrays
    that an adaptation keeps frozen beside a weight count among its bytes; those that several weights share, such as
    random matrices, have rows of their own, "frozen beside".

    Args:
        adaptation: what learns.
        params: of the base model; arrays or ``jax.ShapeDtypeStruct``.
        optimizer: an optax transformation, for the bytes of its slots; none are counted without one.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxft.adapt import lora
        >>> params = {"query": jnp.ones((6, 4)), "bias": jnp.ones(4)}
        >>> [(row.path, row.role, row.trained) for row in summary(lora("query", rank=2), params).rows]
        [('bias', 'frozen', 0), ('query', 'low-rank 2', 20)]
    """

    def shapes(key: Any, params: Params) -> tuple[Any, ...]:
        frozen, delta = adaptation.init(key, params)
        slots = optimizer.init({"delta": delta}) if optimizer is not None else ()
        return adaptation.bind(frozen, delta), delta, slots, open_kept(frozen).extra

    bound, delta, slots, kept = jax.eval_shape(shapes, jax.random.key(0), params)
    learned = [
        (f"{link}{name}", name, leaf) for link, tree in _links(delta, params) for name, leaf in leaf_paths(tree).items()
    ]
    slot_leaves = [(f"/{name}".partition("/delta/")[2], leaf) for name, leaf in leaf_paths(slots).items()]
    base_paths = leaf_paths(params, is_leaf=is_structured)
    rows: list[Row] = []
    counted: set[str] = set()
    for path, leaf in leaf_paths(bound, is_leaf=is_structured).items():
        ours = {full: part for full, name, part in learned if name == path or name.startswith(f"{path}/")}
        counted |= ours.keys()
        trained = sum(math.prod(part.shape) for part in ours.values())
        base = _base(leaf)
        added = sum(map(_bytes, ours.values())) if is_structured(leaf) else 0
        still = "frozen" if path in base_paths else "added"
        role = leaf.kind if is_structured(leaf) else "trained" if ours else still
        slots_of = sum(_bytes(slot) for name, slot in slot_leaves if name in ours)
        parameters = math.prod(leaf.shape)
        rows.append(Row(path, tuple(leaf.shape), role, parameters, trained, _bytes(base) + added, slots_of))
    for full, name, part in learned:
        if full not in counted:
            slots_of = sum(_bytes(slot) for slot_name, slot in slot_leaves if slot_name == full)
            size = math.prod(part.shape)
            rows.append(Row(name, tuple(part.shape), "trained beside", 0, size, _bytes(part), slots_of))
    whole = {path for path, leaf in leaf_paths(bound, is_leaf=is_structured).items() if not is_structured(leaf)}
    return Summary(_with_kept(rows, kept, params, whole))


def _with_kept(rows: list[Row], kept: PyTree, params: Params, whole: set[str]) -> list[Row]:
    """The rows, with what is kept frozen beside a weight in its bytes, and behind them what is kept for several."""
    for held, tree in _kept_trees(kept, params):
        for name, leaf in leaf_paths(tree).items():
            if held and name in whole:
                continue  # it is the leaf itself, whose bytes its row has
            owner = next((i for i, row in enumerate(rows) if f"{name}/".startswith(f"{row.path}/")), None)
            if owner is None:
                rows = [*rows, Row(name, tuple(leaf.shape), "frozen beside", 0, 0, _bytes(leaf), 0)]
            else:
                rows[owner] = rows[owner]._replace(bytes=rows[owner].bytes + _bytes(leaf))
    return rows


def _kept_trees(kept: PyTree, params: Params) -> Iterator[tuple[bool, PyTree]]:
    """Trees laid out as the params, of every link of a chain, and whether they are what a narrowed adaptation holds."""
    for _, tree in _links(kept, params):
        if isinstance(tree, Held):
            yield from _kept_trees(tree.extra, params)
            yield from ((True, held) for _, held in _links(tree.delta, params))
        else:
            yield False, tree


def _links(delta: Delta, params: Params, prefix: str = "") -> Iterator[tuple[str, PyTree]]:
    """The delta of every link of a chain, which is laid out as the params, behind the indices that lead to it."""
    if type(delta) is tuple and type(params) is not tuple:
        for index, link in enumerate(delta):
            yield from _links(link, params, f"{prefix}{index}/")
    else:
        yield prefix, delta


def _base(leaf: Any) -> Any:
    while isinstance(leaf, LowRank | Scaled):
        leaf = leaf.base
    return leaf


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
