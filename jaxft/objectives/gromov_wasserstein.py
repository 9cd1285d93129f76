"""Fused Gromov–Wasserstein: a plan between spaces that need share no axis."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.transport import sinkhorn_plan
from jaxft.types import Array


def fused_gromov_wasserstein_plan(
    source_cost: Array,
    target_cost: Array,
    cross_cost: Array | None = None,
    *,
    epsilon: float | Array = 0.02,
    alpha: float | Array = 0.5,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
    iterations: int = 50,
) -> Array:
    """The plan under which rows that are near in one space go to rows that are near in the other; no gradient.

    P = argmin (1−α) ⟨P, M⟩ + α Σ_ijkl (D_ik − E_jl)² P_ij P_kl + entropy,  P 1 = a,  Pᵀ 1 = b

    Projected mirror descent from P = a bᵀ: each round is the Sinkhorn plan of the slope (1−α) M + 2α (D² a ⊕ E² b −
    2 D P E), with ε in units of its mean. D, E and M are each divided by their mean over the rows that have weight
    first, so that the units of the two spaces do not matter. The problem is not convex: other rows of the same cloud
    may be as good, and a cloud that maps onto itself in several ways has no one answer.

    Args:
        source_cost: D, ``[n, n]``, symmetric, such as squared distances between the source's rows.
        target_cost: E, ``[m, m]``, of the target's rows.
        cross_cost: M, ``[n, m]``, such as of labels or of rows known to belong together; without it the plan is that of
            Gromov–Wasserstein and α has no part.
        epsilon: entropy of each round; may be traced.
        alpha: α in [0, 1], the part of the two spaces; may be traced.
        source_weights: a, ``[n]``, as in `sinkhorn_plan`; zero leaves a row out.
        target_weights: b, ``[m]``.
        iterations: rounds.

    Returns:
        ``[n, m]``, of sum one.

    Raises:
        InputError: costs that are not square, or do not fit together.

    Example:
        >>> from jaxft.objectives import squared_distances
        >>> x = jnp.array([[0.0], [1.0], [5.0]])
        >>> plan = fused_gromov_wasserstein_plan(squared_distances(x, x), squared_distances(x[::-1], x[::-1]))
        >>> jnp.argmax(plan, axis=1).tolist()
        [2, 1, 0]

    References:
        Vayer et al., "Optimal Transport for structured data with application on graphs", 2019; Peyré et al.,
        "Gromov-Wasserstein Averaging of Kernel and Distance Matrices", 2016.
    """
    n, m = source_cost.shape[0], target_cost.shape[0]
    for name, cost, shape in (
        ("source_cost", source_cost, (n, n)),
        ("target_cost", target_cost, (m, m)),
        ("cross_cost", cross_cost, (n, m)),
    ):
        if cost is not None and cost.shape != shape:
            raise InputError(f"{name} expects {list(shape)}, within or between the rows, but is {list(cost.shape)}")
    uniform = sinkhorn_plan(jnp.zeros((n, m)), source_weights=source_weights, target_weights=target_weights)
    a, b = uniform.sum(axis=1), uniform.sum(axis=0)
    D, E = _in_units(source_cost, a, a), _in_units(target_cost, b, b)
    M = jnp.zeros((n, m)) if cross_cost is None else _in_units(cross_cost, a, b)
    within = 1.0 if cross_cost is None else jnp.asarray(alpha, jnp.float32)
    apart = _times(D**2, a[:, None]) + _times(E**2, b[:, None]).T

    def once(plan: Array, _: None) -> tuple[Array, None]:
        slope = (1 - within) * M + 2 * within * (apart - 2 * _times(_times(D, plan), E))
        # A round need not be solved to the end: the next one starts from the slope at what it found.
        return sinkhorn_plan(slope, epsilon=epsilon, source_weights=a, target_weights=b, iterations=200), None

    plan: Array = jax.lax.scan(once, uniform, length=iterations)[0]
    return plan


def _in_units(cost: Array, a: Array, b: Array) -> Array:
    """A cost divided by its mean under the weights, zero where there is no weight."""
    c = jnp.where((a[:, None] > 0) & (b > 0), jax.lax.stop_gradient(cost).astype(jnp.float32), 0.0)
    mean = jnp.sum(jnp.abs(c) * a[:, None] * b)
    return c / jnp.where(mean > 0, mean, 1.0)


def _times(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision="highest")
