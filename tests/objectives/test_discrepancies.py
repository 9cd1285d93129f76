"""Discrepancies of kernels and of covariances, against plain loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import bandwidths, coral, covariance, gaussian, jmmd2, lmmd2, mmd2

ROWS = np.random.default_rng(0)
S, T = ROWS.normal(size=(6, 3)).astype(np.float32), (1 + ROWS.normal(size=(4, 3))).astype(np.float32)
SCALES = (0.5, 2.0, 7.0)


def k(x, y, scales=SCALES):
    return np.mean([np.exp(-np.sum((np.asarray(x, float) - np.asarray(y, float)) ** 2) / g) for g in scales])


def by_loops(s, t, estimator, kernel=k):
    n, m = len(s), len(t)
    same = estimator == "biased"
    within_s = sum(kernel(s[i], s[j]) for i in range(n) for j in range(n) if same or i != j)
    within_t = sum(kernel(t[i], t[j]) for i in range(m) for j in range(m) if same or i != j)
    between = sum(kernel(s[i], t[j]) for i in range(n) for j in range(m))
    pairs = (n * n, m * m) if same else (n * (n - 1), m * (m - 1))
    return within_s / pairs[0] + within_t / pairs[1] - 2 * between / (n * m)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_mmd2_is_its_definition(estimator):
    found = mmd2(S, T, estimator=estimator, scales=SCALES)
    np.testing.assert_allclose(found, by_loops(S, T, estimator), atol=1e-5)


def test_the_linear_estimate_is_its_definition():
    s, t = S[:4], T
    h = [k(s[i], s[i + 1]) + k(t[i], t[i + 1]) - k(s[i], t[i + 1]) - k(s[i + 1], t[i]) for i in (0, 2)]
    np.testing.assert_allclose(mmd2(s, t, estimator="linear", scales=SCALES), np.mean(h), atol=1e-5)


@pytest.mark.parametrize("of", ["median", "mean"])
def test_the_widths_surround_the_distance_of_different_rows(of):
    rows = np.concatenate([S, T]).astype(float)
    distances = [np.sum((rows[i] - rows[j]) ** 2) for i in range(10) for j in range(i)]
    assert len(distances) % 2 == 1
    middle = getattr(np, of)(distances)
    np.testing.assert_allclose(bandwidths(S, T, of=of), middle * 2.0 ** np.arange(-2, 3), rtol=1e-5)
    np.testing.assert_allclose(mmd2(S, T, bandwidth=of), mmd2(S, T, scales=middle * 2.0 ** np.arange(-2, 3)), atol=1e-6)


def test_distances_in_a_kernel_are_squared():
    np.testing.assert_allclose(gaussian(jnp.array([9.0]), [4.5]), np.exp(-2), rtol=1e-6)
    found = mmd2(jnp.array([[0.0]]), jnp.array([[3.0]]), estimator="biased", scales=[4.5])
    np.testing.assert_allclose(found, 2 - 2 * np.exp(-2), rtol=1e-6)


def test_the_width_is_a_constant_to_gradients():
    fixed = bandwidths(S, T)
    free = jax.grad(lambda s: mmd2(s, T))(S)
    np.testing.assert_allclose(free, jax.grad(lambda s: mmd2(s, T, scales=fixed))(S), rtol=1e-5)


def test_equal_rows_have_a_finite_width():
    same = jnp.ones((4, 3))
    value, gradient = jax.value_and_grad(lambda s: mmd2(s, same, estimator="biased"))(same)
    assert abs(value) < 1e-6
    np.testing.assert_array_equal(gradient, np.zeros((4, 3)))


def test_unbiased_may_be_negative_and_biased_may_not():
    same = ROWS.normal(size=(8, 2)).astype(np.float32)
    assert mmd2(same, same) < 0
    assert abs(mmd2(same, same, estimator="biased")) < 1e-6


def test_the_mean_of_unbiased_estimates_does_not_depend_on_the_number_of_rows():
    def mean(rows, estimator):
        keys = jax.random.split(jax.random.key(rows), 2000)

        def draw(key):
            x, y = jax.random.normal(key, (2, rows, 1))
            return mmd2(x, y + 0.5, estimator=estimator, scales=[1.0])

        return float(jax.vmap(draw)(keys).mean())

    assert abs(mean(4, "unbiased") - mean(16, "unbiased")) < 0.02
    assert mean(4, "biased") - mean(16, "biased") > 0.1


def test_jmmd2_multiplies_the_kernels_of_layers():
    layers_s, layers_t = (S, S[:, :2] ** 2), (T, T[:, :2] ** 2)

    def product(x, y):
        return k(x[0], y[0]) * k(x[1], y[1], (1.5,))

    rows_s, rows_t = list(zip(*layers_s, strict=True)), list(zip(*layers_t, strict=True))
    for estimator in ("unbiased", "biased"):
        found = jmmd2(layers_s, layers_t, estimator=estimator, scales=[SCALES, (1.5,)])
        np.testing.assert_allclose(found, by_loops(rows_s, rows_t, estimator, product), atol=1e-5)
    np.testing.assert_allclose(jmmd2([S], [T], scales=[SCALES]), mmd2(S, T, scales=SCALES), atol=1e-6)


def test_lmmd2_is_its_definition():
    labels, p = np.array([0, 1, 0, 3, 1, 0]), np.asarray(jax.nn.softmax(jnp.asarray(ROWS.normal(size=(4, 4)))))
    each = []
    for c in (0, 1, 3):
        w, v = (labels == c) / np.sum(labels == c), p[:, c] / p[:, c].sum()
        parts = [(S, w, S, w, 1), (T, v, T, v, 1), (S, w, T, v, -2)]
        each.append(
            sum(
                sign * a[i] * b[j] * k(x[i], y[j])
                for x, a, y, b, sign in parts
                for i in range(len(x))
                for j in range(len(y))
            )
        )
    np.testing.assert_allclose(lmmd2(S, T, jnp.asarray(labels), p, scales=SCALES), np.mean(each), atol=1e-5)


def test_no_gradient_goes_through_the_predictions_of_lmmd2():
    labels, p = jnp.array([0, 1, 0, 1, 1, 0]), jnp.full((4, 2), 0.5)
    assert not np.any(jax.grad(lambda p: lmmd2(S, T, labels, p, scales=SCALES))(p))


def test_coral_is_its_definition():
    difference = np.cov(S.T.astype(float)) - np.cov(T.T.astype(float))
    np.testing.assert_allclose(coral(S, T), np.sum(difference**2) / (4 * 9), atol=1e-5)
    np.testing.assert_allclose(covariance(1000 + S), np.cov(S.T.astype(float)), atol=1e-3)


STATISTICS = {
    "unbiased": lambda s, t, **masks: mmd2(s, t, scales=SCALES, **masks),
    "biased": lambda s, t, **masks: mmd2(s, t, estimator="biased", scales=SCALES, **masks),
    "mmd2 of the median": lambda s, t, **masks: mmd2(s, t, **masks),
    "mmd2 of the mean": lambda s, t, **masks: mmd2(s, t, bandwidth="mean", **masks),
    "jmmd2": lambda s, t, **masks: jmmd2([s, s], [t, t], scales=[SCALES, (1.0,)], **masks),
    "lmmd2": lambda s, t, **masks: lmmd2(
        s,
        t,
        jnp.arange(len(s)) % 2,
        jax.nn.softmax(jnp.arange(len(t) * 2.0).reshape(-1, 2) % 3),
        scales=SCALES,
        **masks,
    ),
    "coral": coral,
}
each = pytest.mark.parametrize("name", STATISTICS)


@each
def test_rows_that_are_left_out_do_not_count(name):
    statistic = STATISTICS[name]
    s, t = (np.concatenate([x, np.full((2, 3), np.nan, np.float32)]) for x in (S, T))
    masks = {"source_mask": jnp.arange(8) < 6, "target_mask": jnp.arange(6) < 4}
    np.testing.assert_allclose(statistic(s, t, **masks), statistic(S, T), atol=1e-6)
    gradient = jax.grad(lambda s: statistic(s, t, **masks))(jnp.asarray(s))
    np.testing.assert_allclose(gradient[:6], jax.grad(lambda s: statistic(s, T))(jnp.asarray(S)), atol=1e-6)
    assert not np.any(gradient[6:])
    none = {"source_mask": jnp.zeros(6, bool), "target_mask": jnp.zeros(4, bool)}
    assert statistic(S, T, **none) == 0


@each
def test_gradients(name):
    if name.startswith("mmd2 of"):
        pytest.skip("the width is a constant to gradients and not to difference quotients")
    check_grads(lambda s, t: STATISTICS[name](s, t), (S, T), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@each
def test_half_precision_is_computed_in_float32(name):
    s, t = jnp.asarray(S, jnp.bfloat16), jnp.asarray(T, jnp.bfloat16)
    exact = STATISTICS[name](s.astype(jnp.float32), t.astype(jnp.float32))
    found = STATISTICS[name](s, t)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, atol=1e-5)


@each
def test_domains_that_cannot_be_compared_are_refused(name):
    with pytest.raises(ft.InputError, match=r"at least one, but they are \[0, 3\]"):
        STATISTICS[name](S, T[:0])
    with pytest.raises(ft.InputError, match=r"the source has 3 and the target 2; .* heterogeneous transfer"):
        STATISTICS[name](S, T[:, :2])


def test_what_is_asked_for_wrongly_is_refused():
    with pytest.raises(ft.InputError, match=r"there is no estimator 'unbiassed' \(nearest: unbiased"):
        mmd2(S, T, estimator="unbiassed")
    with pytest.raises(ft.InputError, match=r"there is no estimator 'v' "):
        ft.mmd(estimator="v")
    with pytest.raises(ft.InputError, match="as many of the source as of the target, an even number, but got 6 and 4"):
        mmd2(S, T, estimator="linear")
    with pytest.raises(ft.InputError, match="the 'median' or the 'mean' of the distances, not 'mode'"):
        mmd2(S, T, bandwidth="mode")
    with pytest.raises(ft.InputError, match="kernels is a whole number from 1 up, but is 0"):
        mmd2(S, T, kernels=0)
    with pytest.raises(ft.InputError, match=r"at least one, but they are \[0\]"):
        mmd2(S, T, scales=[])
    with pytest.raises(ft.InputError, match="2 of the source, 1 of the target"):
        jmmd2([S, S], [T], scales=None)
    with pytest.raises(ft.InputError, match=r"got \[2\] for 6 rows"):
        lmmd2(S, T, jnp.array([0, 1]), jnp.ones((4, 2)))
