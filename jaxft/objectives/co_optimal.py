"""Co-optimal transport: a plan of rows and a plan of features at once, between tables of any two sizes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.transport import sinkhorn_plan
from jaxft.types import Array


class CoOptimalPlans(NamedTuple):
    """What goes to what.

    Attributes:
        rows: ``[n, m]``, from source rows to target rows.
        features: ``[d, e]``, from source features to target features.
    """

    rows: Array
    features: Array


def co_optimal_transport(
    source: Array,
    target: Array,
    *,
    epsilon: float | Array = 0.02,
    feature_epsilon: float | Array | None = None,
    cross_cost: Array | None = None,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
    iterations: int = 20,
) -> CoOptimalPlans:
    """Plans of rows and of features under which the two tables agree best; no gradient goes through them.

    P, Q = argmin Σ_ijkl (x_ik − t_jl)² P_ij Q_kl + Σ_ij M_ij P_ij + entropies

    With Q fixed the best P is a Sinkhorn plan, and the other way round: the two take turns from Q uniform. Values are
    compared as they are: standardise the features of both tables first where their units differ.

    Args:
        source: x, ``[n, d]``.
        target: t, ``[m, e]``; rows and features may both differ in number.
        epsilon: entropy of the rows' plan, in units of the mean cost; may be traced.
        feature_epsilon: entropy of the features' plan; that of the rows when not given.
        cross_cost: M, ``[n, m]``, such as of labels that are known on both sides, in units of the squared values.
        source_weights: of the source's rows, ``[n]``, as in `sinkhorn_plan`; zero leaves a row out.
        target_weights: of the target's rows, ``[m]``.
        iterations: turns of both.

    Raises:
        InputError: values that are no tables; weights or a cost that do not fit.

    Example:
        >>> x = jnp.array([[0.0, 5.0, 1.0], [2.0, 9.0, 0.0]])
        >>> plans = co_optimal_transport(x, x[::-1, ::-1])
        >>> jnp.argmax(plans.rows, axis=1).tolist(), jnp.argmax(plans.features, axis=1).tolist()
        ([1, 0], [2, 1, 0])

    References:
        Redko et al., "CO-Optimal Transport", 2020.
    """
    if source.ndim != 2 or target.ndim != 2:
        raise InputError(
            f"co-optimal transport is between tables [rows, features], but they are {list(source.shape)} and "
            f"{list(target.shape)}"
        )
    shape = (source.shape[0], target.shape[0])
    if cross_cost is not None and cross_cost.shape != shape:
        raise InputError(f"cross_cost expects {list(shape)}, between the rows, but is {list(cross_cost.shape)}")
    uniform = sinkhorn_plan(jnp.zeros(shape), source_weights=source_weights, target_weights=target_weights)
    a, b = uniform.sum(axis=1), uniform.sum(axis=0)
    x, t = (
        jnp.where(weights[:, None] > 0, jax.lax.stop_gradient(table).astype(jnp.float32), 0.0)
        for table, weights in ((source, a), (target, b))
    )
    M = 0.0 if cross_cost is None else jnp.where(uniform > 0, jax.lax.stop_gradient(cross_cost), 0.0)
    of_features = epsilon if feature_epsilon is None else feature_epsilon

    def once(plans: CoOptimalPlans, _: None) -> tuple[CoOptimalPlans, None]:
        cost = disagreement(x, t, plans.features) + M
        rows = sinkhorn_plan(cost, epsilon=epsilon, source_weights=a, target_weights=b)
        return CoOptimalPlans(rows, sinkhorn_plan(disagreement(x.T, t.T, rows), epsilon=of_features)), None

    d, e = source.shape[1], target.shape[1]
    plans: CoOptimalPlans = jax.lax.scan(
        once, CoOptimalPlans(uniform, jnp.full((d, e), 1 / (d * e))), length=iterations
    )[0]
    return plans


def disagreement(source: Array, target: Array, features: Array) -> Array:
    """How much rows of two tables disagree when their features go to one another.

    C_ij = Σ_kl (x_ik − t_jl)² Q_kl

    Args:
        source: x, ``[n, d]``.
        target: t, ``[m, e]``.
        features: Q, ``[d, e]``, a plan.

    Example:
        >>> disagreement(jnp.array([[1.0, 2.0]]), jnp.array([[2.0]]), jnp.array([[0.5], [0.5]])).tolist()
        [[0.5]]
    """
    of_source = jnp.sum(source**2 * features.sum(axis=1), axis=1)
    of_target = jnp.sum(target**2 * features.sum(axis=0), axis=1)
    both = jnp.matmul(jnp.matmul(source, features, precision="highest"), target.T, precision="highest")
    return jnp.maximum(of_source[:, None] + of_target - 2 * both, 0.0)
