"""Several adaptations as one."""

from __future__ import annotations

from typing import Any

import jax

from jaxft.adapt.added import graft, ungraft
from jaxft.adapt.kept import Kept, open_kept
from jaxft.errors import InputError
from jaxft.trees import leaf_paths
from jaxft.types import Adaptation, Delta, Frozen, Key, Params
from jaxft.weights import is_structured


def chain(*adaptations: Adaptation) -> Adaptation:
    """Applies several adaptations to one model, each to what the ones before it left frozen.

    The delta is a tuple, one entry an adaptation.

    Args:
        *adaptations: at least one, such as ``lora("**/query/kernel"), tune("head/**")``.

    Raises:
        InputError: no adaptation is given; or at ``init``, when two adaptations want the same leaf in ways that make no
            sense together: both train or add it, one trains what another adapts, or both put the same kind of weight
            there. What an earlier link puts there lies over what a later one does: ``chain(ia3(…), dora(…))`` rescales
            the outputs of a DoRA weight, while the lengths of DoRA over those of IA3 would undo them.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxft.adapt import lora, tune
        >>> params = {"query": jnp.ones((6, 4)), "head": jnp.zeros((4, 2))}
        >>> frozen, delta = chain(lora("query", rank=1), tune("head")).init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        ({'head': None, 'query': {'a': (6, 1), 'b': (1, 4)}}, {'head': (4, 2), 'query': None})
    """
    if not adaptations:
        raise InputError("chain expects at least one adaptation; jaxft.full() trains everything")

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        _check_overlap(adaptations, key, params)
        rest, extras, deltas = params, [], []
        for index, adaptation in enumerate(adaptations):
            frozen, delta = adaptation.init(jax.random.fold_in(key, index), rest)
            rest, extra = open_kept(frozen)
            extras.append(extra)
            deltas.append(delta)
        return (Kept(rest, tuple(extras)) if jax.tree.leaves(extras) else rest), tuple(deltas)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        params, extras = open_kept(frozen)
        added: Params = {}
        for index in reversed(range(len(adaptations))):
            link_key = None if key is None else jax.random.fold_in(key, index)
            link = Kept(params, extras[index]) if extras and jax.tree.leaves(extras[index]) else params
            # What a link adds waits until the end: the others' deltas are laid out as the params without it.
            params, new = ungraft(params, adaptations[index].bind(link, delta[index], key=link_key))
            added = graft(added, new)
        return graft(params, added) if added else params

    return Adaptation(init, bind)


def _check_overlap(adaptations: tuple[Adaptation, ...], key: Key, params: Params) -> None:
    """Compares, without computing, what each adaptation alone would do to every leaf."""
    claimed: dict[str, list[tuple[int, str]]] = {}
    for index, adaptation in enumerate(adaptations):
        for path, use in _uses(adaptation, key, params).items():
            for earlier, former_use in claimed.setdefault(path, []):
                if use == former_use or "trained" in (use, former_use):
                    raise InputError(f"{_overlap(path, earlier, index, former_use, use)}{_APART}")
                if former_use.startswith(f"{use} of "):
                    raise InputError(
                        f"{_overlap(path, earlier, index, former_use, use)}, which would undo it; "
                        f"put adaptation {index + 1} before adaptation {earlier + 1}"
                    )
            claimed[path].append((index, use))


_APART = "; take the leaf out of one selector, as in 'a & ~b'"


def _overlap(path: str, earlier: int, later: int, former_use: str, use: str) -> str:
    return (
        f"adaptations {earlier + 1} and {later + 1} of the chain overlap at {path!r}: "
        f"{former_use} by one, {use} by the other"
    )


def _uses(adaptation: Adaptation, key: Key, params: Params) -> dict[str, str]:
    """Says for each leaf that an adaptation touches whether it is trained, added or made a structured weight."""

    def bound(key: Key, params: Params) -> tuple[Any, Any]:
        frozen, delta = adaptation.init(key, params)
        return frozen, adaptation.bind(frozen, delta)

    frozen, adapted = jax.eval_shape(bound, key, params)
    left = leaf_paths(open_kept(frozen).params, is_leaf=is_structured)
    base = leaf_paths(params, is_leaf=is_structured)
    uses = {path: "trained" for path in base if path not in left}
    for path, leaf in leaf_paths(adapted, is_leaf=is_structured).items():
        if path not in base:
            uses[path] = "added"
        elif (kinds := _kinds(leaf)) != (former := _kinds(base[path])):
            new = kinds[: len(kinds) - len(former)] or kinds
            uses[path] = f"made a {' of a '.join(f'{kind} weight' for kind in new)}"
    return uses


def _kinds(leaf: Any) -> list[str]:
    """The kinds of a structured weight and of the weights in it, the outermost first."""
    return [type(leaf).__name__, *_kinds(getattr(leaf, "base", None))] if is_structured(leaf) else []
