"""Gaussian kernels of several widths between rows of two domains."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.distances import squared_distances
from jaxft.objectives.rows import rows_that_count
from jaxft.types import Array

KERNELS = 5
"""How many widths a kernel has by default, each twice the one before."""
_EPS = 1e-6


def check_domains(source: Array, target: Array, name: str) -> None:
    """Refuses what is no pair of domains with the same features.

    Raises:
        InputError: one has no rows, or is no matrix; or their features differ in size.
    """
    for domain, values in (("source", source), ("target", target)):
        if values.ndim != 2 or values.shape[0] == 0:
            raise InputError(
                f"{name} expects rows [batch, dim] of the {domain}, at least one, but they are {list(values.shape)}"
            )
    if source.shape[1] != target.shape[1]:
        raise InputError(
            f"{name} compares features of one size, but the source has {source.shape[1]} and the target "
            f"{target.shape[1]}; for features of different sizes see heterogeneous transfer: two_encoders"
        )


def typical_distance(x: Array, counts: Array, *, of: str = "median") -> Array:
    """The median or mean of the squared distances between different rows that count, a constant to gradients.

    The median of an even number of distances is the lower of the two in the middle. Rows that are equal are different
    rows all the same: it is zero where most are.

    Args:
        x: rows of both domains, ``[n, dim]``.
        counts: bools ``[n]``.
        of: "median" or "mean".

    Raises:
        InputError: ``of`` is another.

    Example:
        >>> rows, counts = jnp.array([[0.0], [1.0], [3.0]]), jnp.ones(3, bool)
        >>> float(typical_distance(rows, counts)), float(typical_distance(rows, counts, of="mean"))
        (4.0, 4.666666507720947)
    """
    if of not in ("median", "mean"):
        raise InputError(f"the bandwidth is the 'median' or the 'mean' of the distances, not {of!r}")
    x = jax.lax.stop_gradient(x)
    first, second = jnp.triu_indices(x.shape[0], k=1)
    distances, pairs = squared_distances(x, x)[first, second], counts[first] & counts[second]
    number = jnp.sum(pairs)
    if of == "mean":
        return jnp.sum(jnp.where(pairs, distances, 0.0)) / jnp.maximum(number, 1)
    ordered = jnp.sort(jnp.where(pairs, distances, jnp.inf))
    if not ordered.size:
        return jnp.zeros(())
    middle = ordered[jnp.maximum((number - 1) // 2, 0)]
    return jnp.where(number > 0, middle, 0.0)


def bandwidths(
    source: Array,
    target: Array,
    *,
    kernels: int = KERNELS,
    of: str = "median",
    source_mask: Array | None = None,
    target_mask: Array | None = None,
) -> Array:
    """γ_u = m · 2^e for e around zero: how far each kernel sees, ``[kernels]``; constants to gradients.

    m is the median or mean of the squared distances between different rows of both domains together, plus a little.

    Args:
        source: ``[n, dim]``.
        target: ``[m, dim]``.
        kernels: how many.
        of: "median" or "mean".
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Raises:
        InputError: ``kernels`` is below one, or ``of`` is another.

    Example:
        >>> bandwidths(jnp.array([[0.0]]), jnp.array([[2.0]]), kernels=3).round(3).tolist()
        [2.0, 4.0, 8.0]

    References:
        Gretton et al., "A Kernel Two-Sample Test", 2012.
    """
    if isinstance(kernels, bool) or not isinstance(kernels, int) or kernels < 1:
        raise InputError(f"kernels is a whole number from 1 up, but is {kernels!r}")
    counts = jnp.concatenate([rows_that_count(source, source_mask), rows_that_count(target, target_mask)])
    m = typical_distance(jnp.concatenate([source, target]), counts, of=of) + _EPS
    return m * 2.0 ** (jnp.arange(kernels) - kernels // 2)


def gaussian(
    distances: Array, scales: Array | Sequence[float], weights: Array | Sequence[float] | None = None
) -> Array:
    """k = Σ_u β_u exp(−d / γ_u) of *squared* distances d.

    Args:
        distances: d, of any shape.
        scales: γ, ``[kernels]``.
        weights: β, ``[kernels]`` of sum one; all equal if None.

    Raises:
        InputError: there is no scale, or not one weight for each.

    Example:
        >>> round(float(gaussian(jnp.array(2.0), [1.0, 2.0])), 6)
        0.251607
    """
    gamma = jnp.atleast_1d(jnp.asarray(scales, jnp.float32))
    if gamma.ndim != 1 or not gamma.size:
        raise InputError(f"scales are numbers [kernels], at least one, but they are {list(gamma.shape)}")
    beta = jnp.full(gamma.shape, 1 / gamma.size) if weights is None else jnp.asarray(weights, jnp.float32)
    if beta.shape != gamma.shape:
        raise InputError(f"there are {gamma.size} scales, but the weights are {list(beta.shape)}")
    return sum(
        (b * jnp.exp(-distances / g) for b, g in zip(beta, gamma, strict=True)), start=jnp.zeros(distances.shape)
    )
