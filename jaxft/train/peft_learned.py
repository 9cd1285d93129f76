"""What an adaptation learned, told by what stands at each place of the bound params."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxft.adapt.kept import open_kept
from jaxft.adapt.names import delta_names
from jaxft.adapt.residual import Taken
from jaxft.errors import InputError
from jaxft.train.peft_sites import ADVICE
from jaxft.trees import leaf_paths
from jaxft.types import Adaptation, Array, Delta, Frozen
from jaxft.weights import LowRank, Scaled, is_structured

SLOTS = ("prompt", "prefix", "bottleneck", "parallel")
"""Sub-trees that adaptations add to the params."""


class Learned(NamedTuple):
    """What learned, by path.

    Attributes:
        bound: the params, arrays and structured weights; a weight that its start was taken out of is whole again.
        base: arrays of the base model; without those that were trained whole, and those of which a part was taken out.
        whole: paths of arrays that were trained as they are.
        parts: the trained parts of each structured weight.
        added: arrays that the params of the base model have no place for.
    """

    bound: dict[str, Any]
    base: dict[str, Any]
    whole: set[str]
    parts: dict[str, dict[str, Array]]
    added: dict[str, Array]


def what_learned(adaptation: Adaptation, frozen: Frozen, delta: Delta) -> Learned:
    """Sorts every array of the delta to the place it belongs to.

    Raises:
        InputError: one belongs to none.
    """
    kept = open_kept(frozen)
    every = leaf_paths(adaptation.bind(frozen, delta), is_leaf=is_structured)
    base = leaf_paths(kept.params, is_leaf=is_structured)
    taken = _taken(kept.extra)
    learned = Learned({}, {path: leaf for path, leaf in base.items() if path not in taken}, set(), {}, {})
    for path, leaf in every.items():
        if _is_added(path):
            learned.added[path] = leaf
        else:
            learned.bound[path] = _whole_again(leaf, taken[path]) if path in taken else leaf
    names = delta_names(delta)
    for path, array in leaf_paths(delta).items():
        _place(path, names[path], array, learned)
    return learned


def _is_added(path: str) -> bool:
    return any(key in SLOTS for key in path.split("/")[:-1]) or path.endswith("embeddings/prompt")


def _place(path: str, name: str, array: Array, learned: Learned) -> None:
    if _is_added(name):
        return
    # Params that are a tuple at their top have lost their own index with those of the links.
    while not (owner := _owner(name, learned.bound)) and name != path:
        name = path[path[: -len(name) - 1].rfind("/") + 1 :]
    if not owner:
        raise InputError(f"the adaptation learned {name!r}, which is neither a weight nor a part of one: {ADVICE}")
    if owner == name:
        learned.whole.add(owner)
        return
    part, parts = name.removeprefix(f"{owner}/"), learned.parts.setdefault(owner, {})
    if part in parts:
        raise InputError(f"several links of the chain learned {part!r} of {owner!r}: {ADVICE}")
    parts[part] = array


def _owner(name: str, bound: Mapping[str, Any]) -> str:
    """The path of the weight of that name, or which it is a part of; empty when there is none."""
    owner = name
    while owner and owner not in bound:
        owner = owner.rpartition("/")[0]
    return owner if owner and is_structured(bound[owner]) == (owner != name) else ""


def _taken(extra: Any) -> dict[str, Taken]:
    """What residual methods took out of weights, by their paths in the params."""

    def is_taken(node: Any) -> bool:
        return isinstance(node, Taken)

    names = delta_names(extra, is_taken)
    return {names[path]: node for path, node in leaf_paths(extra, is_taken).items() if is_taken(node)}


def _whole_again(leaf: LowRank, taken: Taken) -> LowRank:
    """The same weight on its original base: (W − s A₀ B₀) + s A B = W + s [A, A₀] [B; −B₀]."""
    a0 = taken.a.reshape(*leaf.a.shape[:-1], -1)
    b0 = jnp.moveaxis(taken.b, -2, -1).reshape(*leaf.b.shape[:-1], -1)
    return dataclasses.replace(
        leaf, a=jnp.concatenate([leaf.a, a0], axis=-1), b=jnp.concatenate([leaf.b, -b0], axis=-1)
    )


def kinds(learned: Learned) -> str:
    """The one kind of adapter at all structured weights; several are refused by name."""
    found: dict[str, str] = {}
    for path, leaf in learned.bound.items():
        if path in learned.parts and is_structured(leaf):
            found.setdefault(_kind(path, leaf, learned.parts[path]), path)
    if learned.added:
        name = next(iter(learned.added))
        key = next((key for key in reversed(name.split("/")) if key in SLOTS), name)
        found.setdefault(key, name)
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise InputError(f"{first!r} is {one} and {second!r} {other}, but an adapter is of one kind: {ADVICE}")
    if not found:
        raise InputError(
            "an adapter needs at least one adapted weight, such as a low-rank one, but the adaptation has none; merge "
            "it and write the whole model with jaxft.save_model"
        )
    return next(iter(found))


def _kind(path: str, leaf: Any, parts: Mapping[str, Array]) -> str:
    if isinstance(leaf, LowRank):
        return "lora"
    if isinstance(leaf, Scaled) and isinstance(leaf.base, LowRank) and set(parts) == {"a", "b", "m"}:
        return "dora"
    if isinstance(leaf, Scaled) and set(parts) == {"l"}:
        return "ia3"
    raise InputError(f"{path!r} is a {getattr(leaf, 'kind', type(leaf).__name__)} weight: {ADVICE}")


def unhashed(learned: Learned) -> list[str]:
    """Paths of the base that its fingerprint leaves out: quantised weights, and those that were changed."""
    return sorted(
        path
        for path in learned.bound
        if path not in learned.whole and (path not in learned.base or is_structured(learned.base[path]))
    )
