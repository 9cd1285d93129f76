"""Mixout: dropout towards the pretrained weights instead of zero."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.kept import Kept, open_kept
from jaxft.adapt.options import check_rate, is_zero
from jaxft.adapt.partial import tune
from jaxft.trees import join, map_with_path
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params


def mix(key: Key, w: Array, start: Array, rate: float | Array) -> Array:
    """Replaces a random share of the elements of w by those of its start, such that the expectation is w.

    w' = (M ⊙ w + (1 − M) ⊙ w0 − p w0) / (1 − p) = w0 + M ⊙ (w − w0) / (1 − p),  M ~ Bernoulli(1 − p) an element

    Args:
        key: of the draw.
        w: an array of floats.
        start: w0, of the same shape.
        rate: p in [0, 1); may be traced.

    Example:
        >>> mix(jax.random.key(0), jnp.full(6, 3.0), jnp.ones(6), 0.5)
        Array([1., 1., 5., 5., 1., 5.], dtype=float32)
    """
    keep = 1 - jnp.asarray(rate, jnp.float32)
    moved = (w - start) / keep.astype(w.dtype)
    return start + jnp.where(jax.random.bernoulli(key, keep, w.shape), moved, jnp.zeros((), w.dtype))


def mixout(selector: Choice, *, rate: float | Array = 0.7) -> Adaptation:
    """Trains the selected leaves, in training with a random share of their elements back at their pretrained values.

    w' = (M ⊙ w + (1 − M) ⊙ w0 − p w0) / (1 − p),  M ~ Bernoulli(1 − p) an element

    Without a key, in evaluation and when merged, a weight is w itself, the expectation. The pretrained values are kept
    frozen beside the model, so that a selected leaf is in memory twice. The paper tries rates of 0.7, 0.8 and 0.9 in
    place of the model's dropout (``load_model(…, dropout=0)``), and its code mixes the kernels of linear layers; a
    fresh head has no pretrained value and belongs to `tune`.

    Args:
        selector: the weights to train and mix, such as ``"encoder/**/kernel"``.
        rate: p in [0, 1); may be traced.

    Raises:
        InputError: a rate outside [0, 1), or at ``init`` a selector that matches no floating-point leaf.

    Example:
        >>> import jaxft as ft
        >>> params = {"encoder": {"kernel": jnp.ones(2)}, "head": {"kernel": jnp.zeros(2)}}
        >>> adaptation = ft.chain(mixout("encoder/**", rate=0.9), ft.tune("head/**"))
        >>> frozen, delta = adaptation.init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta[0])
        {'encoder': {'kernel': (2,)}, 'head': {'kernel': None}}

    References:
        Lee, Cho and Kang, "Mixout: Effective Regularization to Finetune Large-scale Pretrained Language Models", 2020.
    """
    check_rate(rate, "mixout")
    tuned = tune(selector)

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        rest, delta = tuned.init(key, params)
        return Kept(rest, delta), delta

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        rest, start = open_kept(frozen)
        if key is None or is_zero(rate):
            return join(delta, rest)
        count = iter(range(len(jax.tree.leaves(delta))))

        def mixed(path: str, w: Any, w0: Any) -> Array:
            del path
            return mix(jax.random.fold_in(key, next(count)), w, w0, rate)

        return join(map_with_path(mixed, delta, start), rest)

    return Adaptation(init, bind)
