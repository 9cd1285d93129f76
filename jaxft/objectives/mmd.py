"""Maximum mean discrepancy: how far apart the means of two domains lie in the space of a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxft.errors import InputError, nearest
from jaxft.objectives.distances import squared_distances
from jaxft.objectives.kernels import KERNELS, bandwidths, check_domains, gaussian
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective

ESTIMATORS = ("unbiased", "biased", "linear")


def mmd2(
    source: Array,
    target: Array,
    *,
    estimator: str = "unbiased",
    scales: Array | Sequence[float] | None = None,
    kernels: int = KERNELS,
    bandwidth: str = "median",
    source_mask: Array | None = None,
    target_mask: Array | None = None,
) -> Array:
    """Squared maximum mean discrepancy with a sum of Gaussian kernels, in float32.

    unbiased:  Σ_{i≠j} k(s_i, s_j) / n(n−1) + Σ_{i≠j} k(t_i, t_j) / m(m−1) − 2 Σ k(s_i, t_j) / nm, which may be negative
    biased:    the same with the diagonals, over n² and m²; never negative
    linear:    the mean over pairs of rows of k(s₁, s₂) + k(t₁, t₂) − k(s₁, t₂) − k(s₂, t₁)

    with k(x, y) = Σ_u β_u exp(−‖x − y‖² / γ_u).

    Args:
        source: s, ``[n, dim]``.
        target: t, ``[m, dim]``.
        estimator: "unbiased", "biased" or "linear", which takes time of order n and pairs rows as they come.
        scales: γ, ``[kernels]``; those of `bandwidths` if None.
        kernels: how many there are if the scales are not given, each twice as wide as the one before.
        bandwidth: "median" or "mean" of the squared distances is the width in the middle.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Returns:
        A scalar; zero where too few rows count.

    Raises:
        InputError: a domain is empty, the features differ in size, another estimator, or "linear" with an odd or
            different number of rows.

    Example:
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [2.0]])
        >>> round(float(mmd2(x, y, estimator="biased", scales=[1.0])), 5), round(float(mmd2(x, y, scales=[1.0])), 5)
        (0.31606, -0.49084)

    References:
        Gretton et al., "A Kernel Two-Sample Test", 2012. Long et al., "Learning Transferable Features with Deep
        Adaptation Networks", 2015.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"there is no estimator {estimator!r} ({nearest(estimator, ESTIMATORS)})")
    check_domains(source, target, "the maximum mean discrepancy")
    counts_s, counts_t = rows_that_count(source, source_mask), rows_that_count(target, target_mask)
    s, t = (jnp.where(counts[:, None], x, 0.0) for x, counts in ((source, counts_s), (target, counts_t)))
    if scales is None:
        scales = bandwidths(s, t, kernels=kernels, of=bandwidth, source_mask=counts_s, target_mask=counts_t)
    if estimator == "linear":
        return discrepancy_of_pairs(lambda d: gaussian(d, scales), s, t, counts_s, counts_t)
    k_ss, k_tt, k_st = (gaussian(squared_distances(x, y), scales) for x, y in ((s, s), (t, t), (s, t)))
    return discrepancy(k_ss, k_tt, k_st, counts_s, counts_t, unbiased=estimator == "unbiased")


def discrepancy(k_ss: Array, k_tt: Array, k_st: Array, counts_s: Array, counts_t: Array, *, unbiased: bool) -> Array:
    """The squared discrepancy from kernel matrices and from which rows count.

    Args:
        k_ss: ``[n, n]``.
        k_tt: ``[m, m]``.
        k_st: ``[n, m]``.
        counts_s: bools ``[n]``.
        counts_t: bools ``[m]``.
        unbiased: leaves the diagonals out.

    Example:
        >>> one = jnp.ones(2, bool)
        >>> float(discrepancy(jnp.eye(2), jnp.eye(2), jnp.zeros((2, 2)), one, one, unbiased=False))
        1.0
    """
    s, t = counts_s.astype(jnp.float32), counts_t.astype(jnp.float32)
    n, m = s.sum(), t.sum()

    def within(k: Array, w: Array, number: Array) -> Array:
        pairs = w[:, None] * w[None, :]
        if not unbiased:
            return jnp.sum(pairs * k) / jnp.maximum(number, 1.0) ** 2
        return jnp.sum((1 - jnp.eye(len(w))) * pairs * k) / jnp.maximum(number * (number - 1), 1.0)

    between = jnp.sum(s[:, None] * t[None, :] * k_st) / jnp.maximum(n * m, 1.0)
    enough = jnp.minimum(n, m) >= (2 if unbiased else 1)
    return jnp.where(enough, within(k_ss, s, n) + within(k_tt, t, m) - 2 * between, 0.0)


def discrepancy_of_pairs(kernel: Any, s: Array, t: Array, counts_s: Array, counts_t: Array) -> Array:
    """The linear-time estimate: a mean over pairs of neighbouring rows, each of both domains.

    Args:
        kernel: of squared distances.
        s: ``[n, dim]``, n even.
        t: ``[n, dim]``.
        counts_s: bools ``[n]``; a pair counts when all four of its rows do.
        counts_t: bools ``[n]``.

    Raises:
        InputError: the domains differ in rows, or n is odd.
    """
    if s.shape[0] != t.shape[0] or s.shape[0] % 2:
        raise InputError(
            "the linear estimator pairs rows: it expects as many of the source as of the target, an even number, but "
            f"got {s.shape[0]} and {t.shape[0]}; leave one out, or take estimator='unbiased'"
        )

    def k(x: Array, y: Array) -> Array:
        return kernel(jnp.sum((x.astype(jnp.float32) - y.astype(jnp.float32)) ** 2, axis=1))

    s1, s2, t1, t2 = s[::2], s[1::2], t[::2], t[1::2]
    pairs = (counts_s & counts_t)[::2] & (counts_s & counts_t)[1::2]
    h = k(s1, s2) + k(t1, t2) - k(s1, t2) - k(s2, t1)
    return jnp.sum(jnp.where(pairs, h, 0.0)) / jnp.maximum(jnp.sum(pairs), 1)


def mmd(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    estimator: str = "unbiased",
    scales: Array | Sequence[float] | None = None,
    kernels: int = KERNELS,
    bandwidth: str = "median",
) -> Objective:
    """Brings the source's and the target's rows together in one layer: the squared maximum mean discrepancy.

    L = MMD²(layer of the source, layer of the target), with several kernels the MK-MMD of deep adaptation networks

    Args:
        layer: "features", "logits", "probabilities", or the number of a hidden state.
        source: name of a view.
        target: name of a view; labels are read of neither.
        estimator: as in `mmd2`.
        scales: as in `mmd2`.
        kernels: as in `mmd2`.
        bandwidth: as in `mmd2`.

    Raises:
        InputError: as `mmd2`; a view is not in the batch, or the model does not give the layer.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), align=(mmd("features"), 0.1))

    References:
        Long et al., "Learning Transferable Features with Deep Adaptation Networks", 2015.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"there is no estimator {estimator!r} ({nearest(estimator, ESTIMATORS)})")

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        s, counts_s = layer_of(context, source, layer)
        t, counts_t = layer_of(context, target, layer)
        found = mmd2(
            s,
            t,
            estimator=estimator,
            scales=scales,
            kernels=kernels,
            bandwidth=bandwidth,
            source_mask=counts_s,
            target_mask=counts_t,
        )
        return found, (memory, {})

    return Objective(no_state, apply)
