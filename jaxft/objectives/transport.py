"""Optimal transport: how much of each source row goes to each target row, and where a row lands."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.distances import squared_distances
from jaxft.objectives.rows import rows_that_count
from jaxft.types import Array


def sinkhorn_plan(
    cost: Array,
    *,
    epsilon: float | Array = 0.05,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
    iterations: int = 1000,
) -> Array:
    """The entropic optimal transport plan of a cost, in float32; no gradient goes through it.

    P = argmin ⟨P, C⟩ + ε C̄ Σ_ij P_ij (log P_ij − 1),  P 1 = a,  Pᵀ 1 = b,  C̄ = mean C

    ε is in units of the mean cost of the pairs that have weight, so that the plan of a cost is that of the cost in
    other units. The sums of the plan are the weights exactly, also where the iterations stop before they agree.

    Args:
        cost: C, ``[n, m]``.
        epsilon: ε, positive; may be traced.
        source_weights: a, ``[n]``, not negative, scaled to a sum of one; equal when not given. A row of weight zero
            takes no part, whatever its costs are.
        target_weights: b, ``[m]``, likewise.
        iterations: at most how many rounds of scaling.

    Returns:
        ``[n, m]``, of sum one; zero when a side has no weight at all.

    Raises:
        InputError: the cost is no matrix, or the weights do not fit it.

    Example:
        >>> sinkhorn_plan(jnp.array([[0.0, 1.0], [1.0, 0.0]])).round(3).tolist()
        [[0.5, 0.0], [0.0, 0.5]]

    References:
        Cuturi, "Sinkhorn Distances: Lightspeed Computation of Optimal Transport", 2013; Altschuler et al.,
        "Near-linear time approximation algorithms for optimal transport via Sinkhorn iteration", 2017 (exact sums).
    """
    if cost.ndim != 2 or 0 in cost.shape:
        raise InputError(f"a transport plan is of a cost [source rows, target rows], but it is {list(cost.shape)}")
    if isinstance(epsilon, (int, float)) and epsilon <= 0:
        raise InputError(f"epsilon is in units of the mean cost and must be positive, but is {epsilon}")
    a, some = _shares("source_weights", source_weights, cost.shape[0])
    b, others = _shares("target_weights", target_weights, cost.shape[1])
    pairs = (a[:, None] > 0) & (b > 0)
    c = jnp.where(pairs, jax.lax.stop_gradient(cost).astype(jnp.float32), 0.0)
    mean = jnp.sum(jnp.abs(c)) / jnp.maximum(jnp.sum(pairs), 1)
    plan = _sinkhorn()(c / (jnp.where(mean > 0, mean, 1.0) * epsilon), a, b, iterations)
    return jnp.where(some & others, _with_sums(jnp.where(pairs, plan, 0.0), a, b), 0.0)


def barycentric_map(plan: Array, target: Array) -> Array:
    """Where the plan takes each source row: the mean of the target rows it goes to.

    x̂_i = Σ_j P_ij t_j / Σ_j P_ij

    Args:
        plan: P, ``[n, m]``.
        target: t, ``[m, dim]``.

    Returns:
        ``[n, dim]`` in float32; zero for a row that goes nowhere.

    Raises:
        InputError: the plan is not over the rows of the target.

    Example:
        >>> barycentric_map(jnp.array([[0.5, 0.0], [0.25, 0.25]]), jnp.array([[2.0], [4.0]])).tolist()
        [[2.0], [3.0]]

    References:
        Courty et al., "Optimal Transport for Domain Adaptation", 2017.
    """
    if plan.ndim != 2 or target.ndim != 2 or plan.shape[1] != target.shape[0]:
        raise InputError(
            f"a plan [source rows, target rows] maps onto target rows [rows, dim], but they are {list(plan.shape)} "
            f"and {list(target.shape)}"
        )
    goes = jnp.sum(plan, axis=1, keepdims=True) > 0
    t = jnp.where(jnp.any(plan > 0, axis=0)[:, None], target.astype(jnp.float32), 0.0)
    landed = jnp.matmul(plan, t, precision="highest") / jnp.where(goes, jnp.sum(plan, axis=1, keepdims=True), 1.0)
    return jnp.where(goes, landed, 0.0)


def ot_map(
    source: Array,
    target: Array,
    *,
    epsilon: float | Array = 0.05,
    source_mask: Array | None = None,
    target_mask: Array | None = None,
) -> Array:
    """Source features moved onto the target by optimal transport: OT-DA, a transform of features before training.

    x̂ = barycentric map of x under the plan of C_ij = ‖x_i − t_j‖²

    Args:
        source: x, ``[n, dim]``; a classifier is trained on what comes back, with the source's labels.
        target: t, ``[m, dim]``.
        epsilon: of `sinkhorn_plan`, in units of the mean cost; the larger, the nearer all rows come to the mean.
        source_mask: bools ``[n]``; rows that are left out come back as zeros.
        target_mask: bools ``[m]``; nothing is moved onto rows that are left out.

    Returns:
        ``[n, dim]`` in float32, without a gradient to the plan.

    Raises:
        InputError: features of different size, or a mask that does not fit.

    Example:
        >>> moved = ot_map(jnp.array([[0.0], [1.0]]), jnp.array([[11.0], [10.0]]), epsilon=1e-3)
        >>> moved.round(2).tolist()
        [[10.0], [11.0]]

    References:
        Courty et al., "Optimal Transport for Domain Adaptation", 2017.
    """
    weights = [rows_that_count(*pair).astype(jnp.float32) for pair in ((source, source_mask), (target, target_mask))]
    cost = squared_distances(source, target, source_mask=source_mask, target_mask=target_mask)
    plan = sinkhorn_plan(cost, epsilon=epsilon, source_weights=weights[0], target_weights=weights[1])
    return barycentric_map(plan, target)


def _shares(name: str, weights: Array | None, rows: int) -> tuple[Array, Array]:
    """Weights of sum one, and whether there were any."""
    w = jnp.ones(rows) if weights is None else jax.lax.stop_gradient(jnp.asarray(weights, jnp.float32))
    if w.shape != (rows,):
        raise InputError(f"{name} expects one weight for each of {rows} rows, but got {list(w.shape)}")
    total = jnp.sum(w)
    return jnp.where(total > 0, w / jnp.where(total > 0, total, 1.0), 1.0 / rows), total > 0


def _with_sums(plan: Array, a: Array, b: Array) -> Array:
    """The plan of these sums nearest to a plan that nearly has them."""
    rows = jnp.sum(plan, axis=1)
    plan = plan * jnp.minimum(a / jnp.where(rows > 0, rows, 1.0), 1.0)[:, None]
    columns = jnp.sum(plan, axis=0)
    plan = plan * jnp.minimum(b / jnp.where(columns > 0, columns, 1.0), 1.0)
    left, missing = jnp.maximum(a - jnp.sum(plan, axis=1), 0.0), jnp.maximum(b - jnp.sum(plan, axis=0), 0.0)
    total = jnp.sum(left)
    return plan + left[:, None] * missing / jnp.where(total > 0, total, 1.0)


@cache
def _sinkhorn() -> Callable[[Array, Array, Array, int], Array]:
    """Sinkhorn's algorithm of ott, which is imported when it is first asked for.

    ott imports jaxopt, which warns that nobody maintains it. The import may come while a caller is traced: constants of
    a module must not become part of that trace.
    """
    with warnings.catch_warnings(), jax.ensure_compile_time_eval():
        warnings.filterwarnings("ignore", message="JAXopt is no longer maintained", category=DeprecationWarning)
        from ott.geometry.geometry import Geometry
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear.sinkhorn import Sinkhorn

    @partial(jax.jit, static_argnums=3)  # outside a step, every plan of one shape is one program
    def plan(cost: Array, a: Array, b: Array, iterations: int) -> Array:
        # In rounds of ten between two looks at the sums.
        solver = Sinkhorn(threshold=1e-5, max_iterations=-(-iterations // 10) * 10)
        found: Array = solver(LinearProblem(Geometry(cost_matrix=cost, epsilon=1.0), a, b)).matrix
        return found

    return plan
