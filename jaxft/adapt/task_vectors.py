"""Task vectors: what fine-tuning added to a base, added up, trimmed, or thinned.

As in `averaging`, all trees are of one structure, computed in float32 and returned in the type of the base. Adapters of
one base enter as what `merge` makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxft.adapt.alike import check_alike, is_float, map_floats, one_each
from jaxft.errors import InputError
from jaxft.types import Array, Key, Params


def task_arithmetic(base: Params, tuned: Sequence[Params], weights: float | Array | Sequence[float | Array]) -> Params:
    """Adds weighted task vectors to a base; a negative weight takes a task away.

    θ = θ_0 + Σ_i λ_i (θ_i − θ_0)

    Args:
        base: θ_0.
        tuned: θ_i, models fine-tuned from it.
        weights: λ_i, one number for all or one each; may be traced.

    Raises:
        InputError: the trees differ in structure or shapes, or there are more or fewer weights than models.

    Example:
        >>> base, first, second = ({"w": jnp.float32(w)} for w in (1.0, 3.0, 0.0))
        >>> task_arithmetic(base, [first, second], [0.5, -1.0])
        {'w': Array(3., dtype=float32)}

    References:
        Ilharco et al., "Editing Models with Task Arithmetic", 2023.
    """
    check_alike([base, *tuned], "base and tuned models")
    factors = one_each(weights, len(tuned), "tuned models")

    def added(zero: Array, *ones: Array) -> Array:
        return zero + sum((factor * (one - zero) for factor, one in zip(factors, ones, strict=True)), jnp.zeros(()))

    return map_floats(added, base, *tuned)


def ties(
    base: Params,
    tuned: Sequence[Params],
    *,
    density: float = 0.2,
    weight: float | Array = 1.0,
    per_leaf: bool = False,
) -> Params:
    """Merges task vectors without letting them cancel: trim, elect a sign, average those that agree.

    τ̂_i = the largest |θ_i − θ_0|, others 0;  γ = sgn Σ_i τ̂_i;  τ = mean of the τ̂_i with sign γ;  θ = θ_0 + λ τ

    Args:
        base: θ_0.
        tuned: θ_i, models fine-tuned from it.
        density: the share of each task vector's values that is kept; those as large as the smallest kept are kept too.
        weight: λ; may be traced.
        per_leaf: whether each leaf keeps that share of its own values, as common tools do, rather than the whole
            vector, as in the paper.

    Raises:
        InputError: the trees differ in structure or shapes, there is no tuned one, or ``density`` is outside (0, 1].

    Example:
        >>> base = {"w": jnp.zeros(4)}
        >>> tuned = [{"w": jnp.array([4.0, 1.0, -3.0, 0.1])}, {"w": jnp.array([2.0, -5.0, 0.1, 0.1])}]
        >>> ties(base, tuned, density=0.5)
        {'w': Array([ 3., -5., -3.,  0.], dtype=float32)}

    References:
        Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", 2023.
    """
    if not tuned:
        raise InputError("ties expects at least one tuned model, but none is given")
    check_alike([base, *tuned], "base and tuned models")
    if not 0 < density <= 1:
        raise InputError(f"ties keeps a share of the values in (0, 1], but density is {density}")
    trimmed = [_trim(_difference(base, tree), density, per_leaf) for tree in tuned]

    def merged(zero: Array, *vectors: Array) -> Array:
        stacked = jnp.stack(vectors)
        sign = jnp.sign(jnp.sum(stacked, axis=0))
        agrees = (jnp.sign(stacked) == sign) & (stacked != 0)
        mean = jnp.sum(jnp.where(agrees, stacked, 0), axis=0) / jnp.maximum(jnp.sum(agrees, axis=0), 1)
        return zero + weight * mean

    return map_floats(merged, base, *trimmed)


def dare(key: Key, base: Params, tuned: Params, *, rate: float | Array = 0.9) -> Params:
    """Drops a random part of what fine-tuning changed and rescales the rest; its result stands for the tuned model.

    θ = θ_0 + m ⊙ (θ_1 − θ_0) / (1 − p),  m ~ Bernoulli(1 − p) for each element

    It composes with the others: ``ties(base, [dare(key, base, tree) for …])``, with a key for each.

    Args:
        key: randomness.
        base: θ_0.
        tuned: θ_1.
        rate: p in [0, 1); may be traced.

    Raises:
        InputError: the trees differ in structure or shapes, or ``rate`` is outside [0, 1).

    Example:
        >>> thinned = dare(jax.random.key(0), {"w": jnp.zeros(1000)}, {"w": jnp.ones(1000)}, rate=0.75)
        >>> sorted(set(thinned["w"].tolist()))
        [0.0, 4.0]

    References:
        Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch", 2024.
    """
    check_alike([base, tuned], "base and tuned models")
    if isinstance(rate, (int, float)) and not 0 <= rate < 1:
        raise InputError(f"dare expects a rate in [0, 1), but got {rate}")
    leaves, structure = jax.tree.flatten(base)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, max(len(leaves), 1)))[: len(leaves)])
    masks = jax.tree.map(lambda leaf, key: jax.random.bernoulli(key, 1 - rate, jnp.shape(leaf)), base, keys)

    def thinned(zero: Array, one: Array, keep: Array) -> Array:
        return zero + keep * (one - zero) / (1 - rate)

    return map_floats(thinned, base, tuned, masks)


def _difference(base: Params, tuned: Params) -> Params:
    """The task vector in float32, zero where nothing can be averaged."""

    def minus(zero: Array, one: Array) -> Array:
        return one.astype(jnp.float32) - zero.astype(jnp.float32) if is_float(zero) else jnp.zeros_like(zero)

    return jax.tree.map(minus, base, tuned)


def _trim(vector: Params, density: float, per_leaf: bool) -> Params:
    """Zero but for the largest magnitudes."""

    def smallest_kept(values: Array) -> Array:
        kept = max(round(density * values.size), 1)
        return jnp.sort(values)[values.size - kept]

    magnitudes = [jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(vector) if is_float(leaf) and leaf.size]
    least = jnp.zeros(()) if per_leaf or not magnitudes else smallest_kept(jnp.concatenate(magnitudes))

    def trim(leaf: Array) -> Array:
        if not is_float(leaf) or not leaf.size:
            return leaf
        threshold = smallest_kept(jnp.abs(leaf).ravel()) if per_leaf else least
        return jnp.where(jnp.abs(leaf) >= threshold, leaf, 0)

    return jax.tree.map(trim, vector)
