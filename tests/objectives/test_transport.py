"""Optimal transport: plans of float64 Sinkhorn and of ott's own solvers, exact sums, rows without weight."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import (
    barycentric_map,
    co_optimal_transport,
    fused_gromov_wasserstein_plan,
    ot_map,
    sinkhorn_plan,
    squared_distances,
)
from jaxft.objectives.co_optimal import disagreement

RNG = np.random.default_rng(0)
COST = RNG.uniform(size=(5, 4)).astype(np.float32)
A, B = np.array([0.1, 0.2, 0.3, 0.15, 0.25]), np.array([0.37, 0.31, 0.21, 0.11])
CLOUD = RNG.normal(size=(6, 2)).astype(np.float32)
ORDER = np.array([3, 0, 5, 1, 4, 2])


def by_hand(cost: Any, a: Any, b: Any, epsilon: float) -> Any:
    """Sinkhorn's scalings in float64 until nothing changes."""
    kernel = np.exp(-np.asarray(cost, np.float64) / (epsilon * np.mean(cost)))
    u, v = np.ones(len(a)), np.ones(len(b))
    for _ in range(20000):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    return u[:, None] * kernel * v


@pytest.mark.parametrize("epsilon", [1.0, 0.2, 0.05])
def test_the_plan_of_float64(epsilon: float) -> None:
    expected = by_hand(COST, A, B, epsilon)
    for function in (sinkhorn_plan, jax.jit(sinkhorn_plan)):
        plan = function(jnp.asarray(COST), epsilon=epsilon, source_weights=A * 7, target_weights=B)
        np.testing.assert_allclose(plan, expected, atol=1e-5)
        np.testing.assert_allclose(plan.sum(1), A, atol=1e-6)
        np.testing.assert_allclose(plan.sum(0), B, atol=1e-6)


def test_the_units_of_the_cost_do_not_matter() -> None:
    plan = sinkhorn_plan(jnp.asarray(COST))
    for scale in (1e8, 1e-8):
        np.testing.assert_allclose(sinkhorn_plan(jnp.asarray(COST) * scale), plan, atol=1e-6)


def test_the_sums_are_the_weights_where_the_iterations_stop_early() -> None:
    far = sinkhorn_plan(jnp.asarray(COST), epsilon=1e-3, source_weights=A, target_weights=B, iterations=10)
    assert np.abs(far - by_hand(COST, A, B, 0.05)).max() > 1e-3
    np.testing.assert_allclose(far.sum(1), A, atol=1e-6)
    np.testing.assert_allclose(far.sum(0), B, atol=1e-6)


def test_rows_without_weight_take_no_part_whatever_they_cost() -> None:
    broken = jnp.full((6, 6), jnp.nan).at[:5, :4].set(COST)
    weights = {"source_weights": jnp.ones(6).at[5:].set(0), "target_weights": jnp.ones(6).at[4:].set(0)}
    plan = sinkhorn_plan(broken, **weights)
    np.testing.assert_allclose(plan[:5, :4], sinkhorn_plan(jnp.asarray(COST)), atol=1e-6)
    assert float(plan[5:].sum() + plan[:, 4:].sum()) == 0
    assert float(sinkhorn_plan(broken, source_weights=jnp.zeros(6)).sum()) == 0


@pytest.mark.parametrize("cost", [np.zeros((3, 2)), np.ones((3, 2)), -np.ones((3, 2)), np.eye(3, 2) * 1e12])
def test_finite_at_degenerate_costs(cost: Any) -> None:
    plan = sinkhorn_plan(jnp.asarray(cost, jnp.float32))
    np.testing.assert_allclose(plan.sum(1), np.full(3, 1 / 3), atol=1e-6)
    if np.ptp(cost) == 0:
        np.testing.assert_allclose(plan, np.full((3, 2), 1 / 6), atol=1e-6)


def test_no_gradient_goes_through_the_plan_and_many_are_one_program() -> None:
    assert not jax.grad(lambda c: (sinkhorn_plan(c) * COST).sum())(jnp.asarray(COST)).any()
    costs = jnp.stack([jnp.asarray(COST), 1 - jnp.asarray(COST)])
    together = jax.vmap(sinkhorn_plan)(costs)
    np.testing.assert_allclose(together, jnp.stack([sinkhorn_plan(c) for c in costs]), atol=1e-5)


def test_the_first_plan_of_a_process_may_be_inside_a_traced_function() -> None:
    program = """
import warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp
from jaxft.objectives import sinkhorn_plan
import sys
assert "ott" not in sys.modules
cost = jnp.arange(6.0).reshape(2, 3)
first = jax.jit(sinkhorn_plan)(cost)
assert "ott" in sys.modules
assert jnp.abs(sinkhorn_plan(cost) - first).max() < 1e-6
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_distances_and_their_gradient_far_from_the_origin() -> None:
    x, t = RNG.normal(size=(4, 3)) + 1e3, RNG.normal(size=(5, 3)) + 1e3
    expected = [
        [((p - q) ** 2).sum() for q in t.astype(np.float32).astype(float)] for p in x.astype(np.float32).astype(float)
    ]
    np.testing.assert_allclose(squared_distances(jnp.asarray(x), jnp.asarray(t)), expected, rtol=1e-5, atol=1e-5)
    small = jnp.asarray(x - 1e3, jnp.float32), jnp.asarray(t - 1e3, jnp.float32)
    check_grads(squared_distances, small, order=1, modes=["rev"], rtol=2e-2)
    broken = jnp.full((6, 3), jnp.nan).at[:4].set(x)
    slope = jax.grad(lambda f: squared_distances(f, jnp.asarray(t), source_mask=jnp.arange(6) < 4)[:4].sum())(broken)
    assert np.isfinite(slope).all()


def test_the_barycentric_map_by_hand() -> None:
    plan, target = RNG.uniform(size=(3, 4)), RNG.normal(size=(4, 2))
    plan[1] = 0
    plan[:, 3] = 0
    target[3] = np.nan
    expected = [sum(plan[i, j] * target[j] for j in range(3)) / max(plan[i].sum(), 1e-30) for i in range(3)]
    np.testing.assert_allclose(barycentric_map(jnp.asarray(plan), jnp.asarray(target)), expected, rtol=1e-5)


def test_ot_da_takes_a_shifted_cloud_back_and_reads_masks() -> None:
    moved = ot_map(jnp.asarray(CLOUD), jnp.asarray(CLOUD[ORDER] + 0.05), epsilon=1e-3)
    np.testing.assert_allclose(moved, CLOUD + 0.05, atol=1e-2)
    masks = {"source_mask": jnp.arange(7) < 6, "target_mask": jnp.arange(8) < 6}
    source, target = jnp.full((7, 2), jnp.nan).at[:6].set(CLOUD), jnp.full((8, 2), jnp.nan).at[:6].set(CLOUD[ORDER])
    padded = ot_map(source, target, epsilon=0.1, **masks)
    np.testing.assert_allclose(padded[:6], ot_map(source[:6], target[:6], epsilon=0.1), atol=1e-5)
    np.testing.assert_array_equal(padded[6], 0)


def turned(cloud: Any) -> Any:
    """A cloud in another space: turned, mirrored, in other units, with a third axis and in another order."""
    wide = np.concatenate([cloud @ np.array([[0.6, 0.8], [0.8, -0.6]]), np.zeros((len(cloud), 1))], axis=1)
    return jnp.asarray(100 * wide[ORDER], jnp.float32)


def test_gromov_wasserstein_finds_the_same_shape_in_another_space() -> None:
    x, y = jnp.asarray(CLOUD), turned(CLOUD)
    plan = fused_gromov_wasserstein_plan(squared_distances(x, x), squared_distances(y, y), epsilon=0.005)
    np.testing.assert_array_equal(np.argmax(plan, axis=0), ORDER)
    np.testing.assert_allclose(plan.sum(0), np.full(6, 1 / 6), atol=1e-6)


def test_gromov_wasserstein_of_ott() -> None:
    sinkhorn_plan(jnp.zeros((1, 1)))
    from ott.geometry.geometry import Geometry
    from ott.solvers.quadratic import solve

    x, y = jnp.asarray(CLOUD), jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32)
    D, E, M = squared_distances(x, x), squared_distances(y, y), jnp.asarray(RNG.uniform(size=(6, 5)), jnp.float32)
    D, E, M = D / D.mean(), E / E.mean(), M / M.mean()
    alpha = 0.3
    plan = fused_gromov_wasserstein_plan(D, E, M, alpha=alpha, epsilon=0.3, iterations=200)
    apart = (D**2).mean(1)[:, None] + (E**2).mean(1) - 2 * D @ plan @ E
    epsilon = 0.3 * float(jnp.abs((1 - alpha) * M + 2 * alpha * apart).mean())
    # In the terms of ott: the quadratic part once, the linear one (1−α)/α times, the entropy over twice α.
    theirs = solve(
        Geometry(D), Geometry(E), Geometry(M), fused_penalty=(1 - alpha) / (2 * alpha), epsilon=epsilon / (2 * alpha)
    ).matrix
    np.testing.assert_allclose(plan, theirs, atol=2e-3)


def test_the_cross_cost_decides_where_the_spaces_do_not() -> None:
    square = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    cost, cross = squared_distances(square, square), 1.0 - jnp.eye(4)[jnp.array([2, 3, 0, 1])]
    plan = fused_gromov_wasserstein_plan(cost, cost, cross, alpha=0.5)
    assert np.argmax(plan, axis=1).tolist() == [2, 3, 0, 1]
    one = fused_gromov_wasserstein_plan(cost, cost, cross, alpha=0.0, epsilon=0.1)
    np.testing.assert_allclose(one, sinkhorn_plan(cross, epsilon=0.1), atol=1e-6)


def test_rows_without_weight_do_not_shape_the_plan() -> None:
    cost = squared_distances(jnp.asarray(CLOUD), jnp.asarray(CLOUD))
    broken = jnp.full((7, 7), jnp.nan).at[:6, :6].set(cost)
    weights = jnp.ones(7).at[6].set(0)
    plan = fused_gromov_wasserstein_plan(broken, cost, source_weights=weights)
    np.testing.assert_allclose(plan[:6], fused_gromov_wasserstein_plan(cost, cost), atol=1e-5)
    table = jnp.full((7, 2), jnp.nan).at[:6].set(CLOUD)
    rows, features = co_optimal_transport(table, jnp.asarray(CLOUD), source_weights=weights)
    expected = co_optimal_transport(jnp.asarray(CLOUD), jnp.asarray(CLOUD))
    np.testing.assert_allclose(rows[:6], expected.rows, atol=1e-5)
    np.testing.assert_allclose(features, expected.features, atol=1e-5)


def test_the_disagreement_by_loops() -> None:
    x, t, q = RNG.normal(size=(3, 2)), RNG.normal(size=(4, 5)), RNG.uniform(size=(2, 5))
    expected = np.zeros((3, 4))
    for i, j, k, m in np.ndindex(3, 4, 2, 5):
        expected[i, j] += (x[i, k] - t[j, m]) ** 2 * q[k, m]
    np.testing.assert_allclose(disagreement(*(jnp.asarray(v, jnp.float32) for v in (x, t, q))), expected, rtol=1e-5)


def test_co_optimal_transport_finds_rows_and_features() -> None:
    table = jnp.asarray(RNG.normal(size=(6, 4)) * np.array([1, 2, 3, 4]) + np.array([0, 3, 6, 9]), jnp.float32)
    features = np.array([2, 0, 3, 1])
    plans = jax.jit(co_optimal_transport)(table, table[ORDER][:, features], epsilon=0.005)
    np.testing.assert_array_equal(np.argmax(plans.rows, axis=0), ORDER)
    np.testing.assert_array_equal(np.argmax(plans.features, axis=0), features)
    # At the end each plan is the Sinkhorn plan of the other: nothing is left to gain in turns.
    cost = disagreement(table, table[ORDER][:, features], plans.features)
    np.testing.assert_allclose(sinkhorn_plan(cost, epsilon=0.005), plans.rows, atol=1e-3)
    known = co_optimal_transport(table, table, cross_cost=100.0 * (1 - jnp.eye(6)[ORDER]))
    np.testing.assert_array_equal(np.argmax(known.rows, axis=1), ORDER)


SQUARE = jnp.zeros((2, 2))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: sinkhorn_plan(jnp.zeros(3)), r"of a cost \[source rows, target rows\], but it is \[3\]"),
        (lambda: sinkhorn_plan(jnp.zeros((0, 3))), r"but it is \[0, 3\]"),
        (lambda: sinkhorn_plan(SQUARE, epsilon=0.0), "must be positive, but is 0.0"),
        (lambda: sinkhorn_plan(SQUARE, source_weights=jnp.ones(3)), r"source_weights expects .* 2 rows, but got \[3\]"),
        (lambda: barycentric_map(SQUARE, jnp.ones((3, 1))), r"are \[2, 2\] and \[3, 1\]"),
        (lambda: squared_distances(SQUARE, jnp.ones((2, 3))), "fused_gromov_wasserstein_plan or co_optimal_transport"),
        (lambda: ot_map(SQUARE, SQUARE, source_mask=jnp.ones(3)), r"each of 2 rows, but got \[3\]"),
        (lambda: fused_gromov_wasserstein_plan(jnp.ones((2, 3)), SQUARE), r"source_cost expects \[2, 2\]"),
        (lambda: fused_gromov_wasserstein_plan(SQUARE, SQUARE, jnp.ones((2, 3))), r"cross_cost expects \[2, 2\]"),
        (lambda: co_optimal_transport(SQUARE, jnp.ones(3)), r"between tables \[rows, features\]"),
        (lambda: co_optimal_transport(SQUARE, SQUARE, cross_cost=jnp.ones(3)), r"cross_cost expects \[2, 2\]"),
    ],
)
def test_what_has_no_plan_is_refused(wrong: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        wrong()
