"""Which frozen arrays an adaptation draws anew for every seed."""

from __future__ import annotations

import jax
from jax.extend.core import Var

from jaxft.study.prefix import known_leaves
from jaxft.types import Adaptation, Delta, Frozen, Key, Params


def drawn_leaves(adaptation: Adaptation, params: Params) -> list[bool]:
    """Says of each frozen array whether it depends on the key of ``init``.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxft.adapt import lora_fa
        >>> drawn_leaves(lora_fa("query"), {"query": jnp.ones((4, 4)), "head": jnp.ones((4, 2))})
        [False, False, True]
    """
    jaxpr = jax.make_jaxpr(lambda key: jax.tree.leaves(adaptation.init(key, params)[0]))(jax.random.key(0)).jaxpr
    drawn = set(jaxpr.invars)
    for equation in jaxpr.eqns:
        if any(isinstance(value, Var) and value in drawn for value in equation.invars):
            drawn.update(equation.outvars)
    return [isinstance(value, Var) and value in drawn for value in jaxpr.outvars]


def known_for_every_seed(
    adaptation: Adaptation, params: Params, frozen: Frozen, delta: Delta, key: Key | None
) -> list[bool]:
    """As :func:`known_leaves`, but what ``init`` drew is not known: a run with another seed has its own.

    Args:
        adaptation: what learns.
        params: that it was initialised with.
        frozen: its frozen arrays, of any seed.
        delta: arrays or shapes.
        key: of ``bind``; None where it is called without.
    """
    leaves, structure = jax.tree.flatten(frozen)
    drawn = drawn_leaves(adaptation, params)
    known: list[bool] = []

    def with_others(others: list[jax.Array]) -> None:
        values = iter(others)
        mixed = [next(values) if own else leaf for leaf, own in zip(leaves, drawn, strict=True)]
        known.extend(known_leaves(adaptation, jax.tree.unflatten(structure, mixed), delta, key))

    jax.eval_shape(with_others, [leaf for leaf, own in zip(leaves, drawn, strict=True) if own])
    return known
