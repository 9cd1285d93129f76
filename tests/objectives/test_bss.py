"""Batch spectral shrinkage: values of numpy, and gradients where singular values are equal or zero."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import smallest_singular_values
from jaxft.types import Context, Outputs

RNG = np.random.default_rng(0)
TALL = RNG.normal(size=(7, 4)).astype(np.float32)
WIDE = RNG.normal(size=(4, 7)).astype(np.float32)


def by_hand(features: Any, k: int) -> float:
    return float(np.sum(np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)[-k:] ** 2))


@pytest.mark.parametrize("features", [TALL, WIDE], ids=["tall", "wide"])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_values_of_numpy(features: Any, k: int) -> None:
    for function in (smallest_singular_values, jax.jit(smallest_singular_values, static_argnums=1)):
        np.testing.assert_allclose(function(jnp.asarray(features), k), by_hand(features, k), rtol=1e-5)


def test_a_singular_value_far_below_the_others_is_not_lost() -> None:
    left, right = (np.linalg.qr(RNG.normal(size=(5, 5)))[0] for _ in range(2))
    features = left @ np.diag([1.0, 1.0, 1.0, 1.0, 1e-3]) @ right
    found = smallest_singular_values(jnp.asarray(features, jnp.float32), 1)
    np.testing.assert_allclose(found, 1e-6, rtol=1e-3)


@pytest.mark.parametrize("features", [TALL, WIDE], ids=["tall", "wide"])
def test_gradients(features: Any) -> None:
    check_grads(lambda f: smallest_singular_values(f, 2), (jnp.asarray(features),), order=1, modes=["rev"], rtol=2e-2)


@pytest.mark.parametrize(
    "features",
    [np.zeros((4, 3)), np.ones((4, 3)), np.eye(4), np.eye(4, 6), np.repeat(TALL[:1], 5, axis=0), np.eye(3) * 1e6],
    ids=["zero", "constant", "equal", "equal and wide", "one row repeated", "large"],
)
@pytest.mark.parametrize("k", [1, 3])
def test_finite_where_singular_values_are_equal_or_zero(features: Any, k: int) -> None:
    features = jnp.asarray(features, jnp.float32)
    value, slope = jax.value_and_grad(smallest_singular_values)(features, k)
    np.testing.assert_allclose(value, by_hand(features, k), rtol=1e-5, atol=1e-5)
    assert jnp.isfinite(slope).all()


def test_the_gradient_at_equal_singular_values_is_one_of_a_direction() -> None:
    slope = jax.grad(smallest_singular_values)(jnp.eye(3), 1)
    np.testing.assert_allclose(np.linalg.svd(slope, compute_uv=False), [2, 0, 0], atol=1e-6)


@pytest.mark.parametrize("features", [TALL, WIDE], ids=["tall", "wide"])
def test_rows_that_do_not_count_add_no_singular_value(features: Any) -> None:
    broken = jnp.concatenate([jnp.asarray(features), jnp.full((3, features.shape[1]), jnp.nan)])
    mask = jnp.arange(len(broken)) < len(features)
    value, slope = jax.value_and_grad(smallest_singular_values)(broken, 2, mask=mask)
    np.testing.assert_allclose(value, by_hand(features, 2), rtol=1e-5)
    expected = jax.grad(smallest_singular_values)(jnp.asarray(features), 2)
    np.testing.assert_allclose(slope[: len(features)], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(slope[len(features) :], 0)


def test_fewer_rows_than_k_and_the_order_of_rows() -> None:
    one = smallest_singular_values(jnp.asarray(TALL), 3, mask=jnp.arange(7) < 1)
    np.testing.assert_allclose(one, np.sum(TALL[0] ** 2), rtol=1e-5)
    mixed = smallest_singular_values(jnp.asarray(TALL[::-1].copy()), 2)
    np.testing.assert_allclose(mixed, by_hand(TALL, 2), rtol=1e-5)


def context(features: Any, mask: Any = None) -> Context:
    batch = {"target": {"x": TALL} | ({} if mask is None else {"mask": mask})}
    return Context(lambda view=None: Outputs(features=features), batch, (), jnp.int32(0), jax.random.key(0))


def test_the_objective_weighs_it_and_reads_the_mask() -> None:
    objective = ft.bss("target")
    loss, (memory, metrics) = objective.apply(*objective.init(jax.random.key(0), context(TALL)), context(TALL))
    np.testing.assert_allclose(loss, 1e-3 * by_hand(TALL, 1), rtol=1e-5)
    assert (memory, metrics) == ((), {})
    masked = ft.bss("target", k=2, weight=1.0).apply((), (), (), context(jnp.asarray(TALL), jnp.arange(7) < 5))[0]
    np.testing.assert_allclose(masked, by_hand(TALL[:5], 2), rtol=1e-5)
    assert ft.bss("target").apply((), (), (), context(jnp.asarray(TALL, jnp.bfloat16)))[0].dtype == jnp.float32


@pytest.mark.parametrize(
    ("features", "options", "reason"),
    [
        (None, {}, "bss reads features .* but the model gives none"),
        (jnp.ones((2, 3, 4)), {}, r"features \[batch, dim\], but they are \[2, 3, 4\]"),
        (jnp.ones((2, 3)), {"k": 3}, "2 singular values; k must be a whole number from 1 to that many, but is 3"),
        (jnp.ones((2, 3)), {"k": 0}, "but is 0"),
        (jnp.ones((2, 3)), {"k": 1.5}, "but is 1.5"),
    ],
)
def test_what_it_cannot_shrink_is_refused(features: Any, options: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        ft.bss("target", **options).apply((), (), (), context(features))
