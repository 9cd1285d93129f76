"""Several low-rank adapters as one, by joining their factors: the exact sum of their updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxft.adapt.alike import one_each
from jaxft.adapt.chain import chain
from jaxft.adapt.kept import open_kept
from jaxft.adapt.lowrank import lora
from jaxft.adapt.names import delta_names
from jaxft.adapt.partial import tune
from jaxft.errors import InputError
from jaxft.trees import Selection, leaf_paths, map_with_path
from jaxft.types import Adaptation, Array, Delta, Frozen, Params
from jaxft.weights import LowRank, is_structured

Adapter = tuple[Adaptation, Frozen, Delta]


class _Joined(NamedTuple):
    """Factors of one weight in the layout of `lora`, and a letter for each of its axes."""

    letters: str
    a: list[Array]
    b: list[Array]


def concatenate_rank(
    params: Params, adapters: Sequence[Adapter], weights: float | Array | Sequence[float | Array] = 1.0
) -> Adapter:
    """Adds several low-rank adapters up, exactly, in one adapter of the sum of their ranks.

    Σ_i λ_i s_i A_i B_i = [A_1 … A_k] [λ_1 s_1 B_1; …; λ_k s_k B_k]

    The mean of the factors would be another update: the mean of A·B is not the product of the means. Leaves that
    adapters train whole, such as a head, become θ_0 + Σ_i λ_i (θ_i − θ_0). For the other ways of merging take the dense
    updates: ``ft.ties(params, [ft.merge(*adapter) for adapter in adapters])``.

    Args:
        params: of the base.
        adapters: (adaptation, frozen, delta) as `load_adapter` returns them; low-rank over the base as it is, and
            leaves trained whole.
        weights: λ_i, one number for all or one each.

    Returns:
        An adapter made of `lora`, chained with `tune` when whole leaves were trained.

    Raises:
        InputError: no adapter, one that changes the base, adds to it or holds other weights than low-rank, adapters
            that treat one weight in different ways, or more or fewer weights than adapters.

    Example:
        >>> import jaxft as ft
        >>> params, adaptation = {"query": jnp.ones((6, 4))}, lora("query", rank=2)
        >>> adapters = [(adaptation, *adaptation.init(jax.random.key(seed), params)) for seed in range(3)]
        >>> both, frozen, delta = concatenate_rank(params, adapters, 1 / 3)
        >>> jax.tree.map(jnp.shape, delta)
        {'query': {'a': (6, 6), 'b': (6, 4)}}

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
        Ilharco et al., "Editing Models with Task Arithmetic", 2023.
    """
    base = leaf_paths(params, is_leaf=is_structured)
    joined: dict[str, _Joined] = {}
    whole: dict[str, Array] = {}
    for (adaptation, frozen, delta), weight in zip(adapters, one_each(weights, len(adapters), "adapters"), strict=True):
        for path, leaf in leaf_paths(adaptation.bind(frozen, delta), is_leaf=is_structured).items():
            if path not in base:
                raise InputError(_stranger(path, frozen))
            if isinstance(leaf, LowRank):
                _join(joined, path, leaf, base[path], weight)
            elif not _same(leaf, base[path]):
                whole[path] = _add(path, whole.get(path, base[path]), leaf, base[path], weight)
    if not joined:
        raise InputError(
            f"none of the {len(adapters)} adapters has a low-rank weight; jaxft.task_arithmetic adds up whole models"
        )
    if both := sorted(joined.keys() & whole.keys()):
        raise InputError(f"{both[0]!r} is low-rank in one adapter and trained whole in another; {_DENSE}")
    return _adapter(params, joined, whole)


def _stranger(path: str, frozen: Frozen) -> str:
    """Why an adapter has a leaf that the params lack: its base has it, with None where it learns, or it was added."""
    of_its_base = leaf_paths(open_kept(frozen).params, is_leaf=lambda leaf: leaf is None or is_structured(leaf))
    if path in of_its_base:
        return f"an adapter has {path!r}, which the params lack: give the params of its base"
    return (
        f"an adapter adds {path!r} to the model; what is added, such as prompts, prefixes and bottlenecks, cannot be "
        "summed: leave that adapter out, or keep it apart and serve it by itself"
    )


_DENSE = "merge dense updates with jaxft.task_arithmetic instead"


def _join(joined: dict[str, _Joined], path: str, leaf: LowRank, base: Any, weight: Any) -> None:
    if not _same(leaf.base, base):
        raise InputError(f"an adapter changes the base of {path!r}, or belongs to another base; {_DENSE}")
    letters = _letters(leaf)
    ours = joined.setdefault(path, _Joined(letters, [], []))
    if letters != ours.letters:
        raise InputError(f"adapters read the axes of {path!r} as {ours.letters!r} and {letters!r}; {_DENSE}")
    stack, inputs, outputs = (
        [size for size, letter in zip(leaf.shape, letters, strict=True) if letter == kind] for kind in "bio"
    )
    b = (leaf.b.astype(jnp.float32) * leaf.scale * weight).astype(leaf.b.dtype)
    ours.a.append(leaf.a.reshape(*stack, *inputs, leaf.rank))
    ours.b.append(jnp.moveaxis(b.reshape(*stack, *outputs, leaf.rank), -1, len(stack)))


def _letters(leaf: LowRank) -> str:
    """A letter for each axis, as `lora` takes them; one of size one may be either, the last is always an output."""
    letters = ""
    for axis, size in enumerate(leaf.shape):
        in_a, in_b = leaf.a.shape[axis] == size, leaf.b.shape[axis] == size
        if size == 1:
            letters += "o" if "o" in letters or axis == leaf.ndim - 1 else "i"
        else:
            letters += "b" if in_a and in_b else "i" if in_a else "o"
    return letters


def _add(path: str, total: Any, leaf: Any, base: Any, weight: Any) -> Array:
    if is_structured(leaf) or is_structured(base):
        raise InputError(
            f"an adapter makes {path!r} a {type(leaf).__name__} weight, which has no rank to add; {_DENSE}"
        )
    difference = leaf.astype(jnp.float32) - base.astype(jnp.float32)
    return (total.astype(jnp.float32) + weight * difference).astype(base.dtype)


def _same(one: Any, two: Any) -> bool:
    ones, twos = jax.tree.leaves(one), jax.tree.leaves(two)
    return len(ones) == len(twos) and all(
        a is b or (a.shape == b.shape and bool(jnp.array_equal(a, b))) for a, b in zip(ones, twos, strict=True)
    )


def _adapter(params: Params, joined: dict[str, _Joined], whole: dict[str, Array]) -> Adapter:
    values = dict(whole)
    for path, (letters, a, b) in joined.items():
        values[f"{path}/a"] = jnp.concatenate(a, axis=-1)
        values[f"{path}/b"] = jnp.concatenate(b, axis=letters.count("b"))
    ranks = {path: values[f"{path}/a"].shape[-1] for path in joined}
    adaptation = lora(
        _exactly(joined),
        rank=ranks,
        alpha={path: float(rank) for path, rank in ranks.items()},  # so that s = 1: the scales are in B
        axes={path: ours.letters for path, ours in joined.items()},
    )
    if whole:
        adaptation = chain(adaptation, tune(_exactly(whole)))
    frozen, delta = adaptation.init(jax.random.key(0), params)
    names = delta_names(delta)
    return adaptation, frozen, map_with_path(lambda path, _: values[names[path]], delta)


def _exactly(paths: dict[str, Any]) -> Selection:
    return Selection(
        lambda params: map_with_path(lambda path, _: path in paths, params, is_leaf=is_structured),
        f"the {len(paths)} leaves of the adapters",
    )
