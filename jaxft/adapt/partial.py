"""Partial fine-tuning: some leaves learn as they are, the others never change."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.trees import everything, join, partition, select
from jaxft.types import Adaptation, Choice, Delta, Frozen, Key, Mask, Params
from jaxft.weights import is_structured


def tune(selector: Choice) -> Adaptation:
    """Trains the selected leaves; the rest is frozen.

    params = join(delta, frozen)

    The frozen leaves are not differentiated and have no optimizer slot. Integer leaves and weights kept in parts
    are never trained.

    Args:
        selector: a glob such as ``"head/**"``, or any function from params to a mask.

    Raises:
        InputError: at ``init``, when the selector matches no floating-point leaf.

    Example:
        >>> params = {"encoder": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.zeros(2)}}
        >>> frozen, delta = tune("head/**").init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        {'encoder': {'kernel': None}, 'head': {'kernel': (2,)}}

    References:
        Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018.
    """

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        del key
        return _divide(params, select(selector, params), repr(selector))

    return Adaptation(init, _bind)


def freeze(selector: Choice) -> Adaptation:
    """Freezes the selected leaves and trains all others.

    Args:
        selector: a glob such as ``"embeddings/**"``, or any function from params to a mask.

    Raises:
        InputError: at ``init``, when the selector matches nothing, or everything.

    Example:
        >>> params = {"encoder": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.zeros(2)}}
        >>> frozen, delta = freeze("encoder/**").init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        {'encoder': {'kernel': None}, 'head': {'kernel': (2,)}}
    """

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        del key
        mask = jax.tree.map(lambda frozen: not frozen, select(selector, params))
        return _divide(params, mask, f"freeze({selector!r})")

    return Adaptation(init, _bind)


def full() -> Adaptation:
    """Trains every floating-point leaf.

    Example:
        >>> frozen, delta = full().init(jax.random.key(0), {"kernel": jnp.ones(2), "ids": jnp.arange(2)})
        >>> jax.tree.map(jnp.shape, delta)
        {'ids': None, 'kernel': (2,)}
    """
    return tune(everything)


def _divide(params: Params, mask: Mask, name: str) -> tuple[Frozen, Delta]:

    def learns(leaf: Any, take: bool) -> bool:
        return take and not is_structured(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)

    trained = jax.tree.map(learns, params, mask, is_leaf=is_structured)
    if not any(jax.tree.leaves(trained)):
        raise InputError(f"{name} leaves no floating-point leaf to train; select at least one")
    delta, frozen = partition(params, trained)
    return frozen, delta


def _bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
    del key
    return join(delta, frozen)
