"""What an adaptation would do to every leaf, before anything is computed."""

from __future__ import annotations

import math
from typing import Any

import jax

from jaxft.trees import Row, Summary, leaf_paths
from jaxft.types import Adaptation, Params
from jaxft.weights import LowRank, is_structured


def summary(adaptation: Adaptation, params: Params, optimizer: Any = None) -> Summary:
    """Tabulates path, shape, role, parameters, bytes and optimizer bytes of every leaf.

    Nothing is computed: shapes are enough.

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

    def shapes(key: Any, params: Params) -> tuple[Any, Any, Any]:
        frozen, delta = adaptation.init(key, params)
        slots = optimizer.init({"delta": delta}) if optimizer is not None else ()
        return adaptation.bind(frozen, delta), delta, slots

    bound, delta, slots = jax.eval_shape(shapes, jax.random.key(0), params)
    learned, slot_leaves = leaf_paths(delta), leaf_paths(slots)
    rows = []
    for path, leaf in leaf_paths(bound, is_leaf=is_structured).items():
        ours = [name for name in learned if _belongs(name, path)]
        trained = sum(math.prod(learned[name].shape) for name in ours)
        base = _base(leaf)
        added = sum(_bytes(learned[name]) for name in ours) if is_structured(leaf) else 0
        role = f"low-rank {leaf.rank}" if isinstance(leaf, LowRank) else "trained" if ours else "frozen"
        slots_of = sum(
            _bytes(x) for name, x in slot_leaves.items() if any(name.endswith(f"delta/{own}") for own in ours)
        )
        parameters = math.prod(leaf.shape)
        rows.append(Row(path, tuple(leaf.shape), role, parameters, trained, _bytes(base) + added, slots_of))
    return Summary(rows)


def _belongs(name: str, path: str) -> bool:
    """Whether a leaf of the delta, perhaps behind the indices of chains, belongs to a path of the params."""
    while name != path and not name.startswith(f"{path}/"):
        head, _, name = name.partition("/")
        if not head.isdigit() or not name:
            return False
    return True


def _base(leaf: Any) -> Any:
    while isinstance(leaf, LowRank):
        leaf = leaf.base
    return leaf


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
