"""An adaptation of which only some arrays learn for now: the others are held with what is frozen."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxft.adapt.kept import Kept, open_kept
from jaxft.adapt.names import select_named
from jaxft.trees import join, partition
from jaxft.types import Adaptation, Choice, Delta, Frozen, Key, Params, PyTree


class Held(NamedTuple):
    """What a narrowed adaptation keeps beside the frozen params.

    Attributes:
        extra: what the adaptation itself keeps.
        delta: the arrays that do not learn for now, with None where the others are.
    """

    extra: PyTree
    delta: Delta


def narrow(adaptation: Adaptation, selector: Choice) -> Adaptation:
    """Lets only the selected arrays of an adaptation learn; the others stay where they start, among what is frozen.

    What is held has no gradient, no optimizer slot and no line in a checkpoint. It belongs to one run: arrays that
    start at random differ from seed to seed, so that runs mapped over seeds map over ``frozen`` too.

    Args:
        adaptation: any, a chain too.
        selector: of arrays that learn, by their paths in the params: ``"head/**"``, or ``"**/query/kernel/b"`` for a
            low-rank factor. A path is the same whichever link of a chain learns it.

    Raises:
        InputError: at ``init``, when the selector matches nothing that learns.

    Example:
        >>> import jaxft as ft
        >>> params = {"query": jnp.ones((6, 4)), "head": jnp.ones((4, 2))}
        >>> adaptation = narrow(ft.chain(ft.lora("query", rank=1), ft.tune("head")), "head")
        >>> frozen, delta = adaptation.init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        ({'head': None, 'query': {'a': None, 'b': None}}, {'head': (4, 2), 'query': None})
    """

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        return hold(*adaptation.init(key, params), selector)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        return adaptation.bind(*_whole(frozen, delta), key=key)

    return Adaptation(init, bind)


def hold(frozen: Frozen, delta: Delta, selector: Choice) -> tuple[Frozen, Delta]:
    """Moves what is not selected from the delta to the frozen arrays; nothing changes when all is selected."""
    chosen, rest = partition(delta, select_named(selector, delta))
    if not jax.tree.leaves(rest):
        return frozen, delta
    params, extra = open_kept(frozen)
    return Kept(params, Held(extra, rest)), chosen


def release(frozen: Frozen, delta: Delta) -> tuple[Frozen, Delta]:
    """Moves what a narrowed adaptation holds back to the delta: what the adaptation itself would have.

    The moved arrays are copied: a step that donates its state must not take the caller's params with it.

    Example:
        >>> import jaxft as ft
        >>> params = {"body": jnp.ones(3), "head": jnp.ones(2)}
        >>> frozen, delta = narrow(ft.full(), "head").init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, release(frozen, delta))
        ({'body': None, 'head': None}, {'body': (3,), 'head': (2,)})
    """
    return _whole(frozen, delta, copy=True)


def release_links(frozen: Frozen, delta: Delta) -> tuple[Frozen, Delta]:
    """As ``release``, and what narrowed links of a chain hold too: all that an adaptation ever learned.

    Example:
        >>> import jaxft as ft
        >>> params = {"body": jnp.ones(3), "head": jnp.ones(2), "rest": jnp.ones(1)}
        >>> adaptation = ft.chain(narrow(ft.tune("{body,head}"), "head"), ft.tune("rest"))
        >>> frozen, delta = release_links(*adaptation.init(jax.random.key(0), params))
        >>> jax.tree.map(jnp.shape, delta[0])
        {'body': (3,), 'head': (2,), 'rest': None}
    """
    params, extra = open_kept(frozen)
    extra, delta = _released(extra, delta)
    return Kept(params, extra) if jax.tree.leaves(extra) else params, delta


def _released(extra: PyTree, delta: Delta) -> tuple[PyTree, Delta]:
    if isinstance(extra, Held):
        return _released(extra.extra, join(delta, extra.delta))
    if type(extra) is not tuple or type(delta) is not tuple or not extra:
        return extra, delta
    links = [_released(*link) for link in zip(extra, delta, strict=True)]
    return tuple(link for link, _ in links), tuple(link for _, link in links)


def _whole(frozen: Frozen, delta: Delta, *, copy: bool = False) -> tuple[Frozen, Delta]:
    params, extra = open_kept(frozen)
    if not isinstance(extra, Held):
        return frozen, delta
    held = jax.tree.map(jnp.copy, extra.delta) if copy else extra.delta
    return Kept(params, extra.extra) if jax.tree.leaves(extra.extra) else params, join(delta, held)
