"""What is asked of predictions without labels, and of the norms of features, against numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import bnm, entropy, information_maximisation, mcc, norm_growth

Z = 2 * np.random.default_rng(1).normal(size=(5, 3))
P = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)


def h(p):
    return -np.sum(p * np.log(p), axis=-1)


def confusion(temperature):
    p = np.exp(Z / temperature)
    p /= p.sum(1, keepdims=True)
    w = 1 + np.exp(-h(p))
    w *= len(p) / w.sum()
    c = np.array([[np.sum(w * p[:, a] * p[:, b]) for b in range(3)] for a in range(3)])
    c /= c.sum(1, keepdims=True)
    return (c.sum() - np.trace(c)) / 3


STATISTICS = {
    "entropy": (entropy, h(P).mean()),
    "information_maximisation": (information_maximisation, h(P).mean() - h(P.mean(0))),
    "mcc": (mcc, confusion(2.5)),
    "mcc of 1": (lambda z, **mask: mcc(z, temperature=1.0, **mask), confusion(1.0)),
    "bnm": (bnm, -np.linalg.svd(P, compute_uv=False).sum() / 5),
    "norm_growth": (norm_growth, 1.0),
}
each = pytest.mark.parametrize("name", STATISTICS)


@each
def test_it_is_its_definition(name):
    statistic, expected = STATISTICS[name]
    np.testing.assert_allclose(statistic(jnp.asarray(Z, jnp.float32)), expected, atol=1e-5)


@each
def test_rows_that_are_left_out_do_not_count(name):
    statistic, expected = STATISTICS[name]
    z = jnp.concatenate([jnp.asarray(Z, jnp.float32), jnp.full((2, 3), jnp.nan)])
    value, gradient = jax.value_and_grad(lambda z: statistic(z, mask=jnp.arange(7) < 5))(z)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    np.testing.assert_allclose(gradient[:5], jax.grad(statistic)(jnp.asarray(Z, jnp.float32)), atol=1e-6)
    assert not np.any(gradient[5:])
    assert statistic(z, mask=jnp.zeros(7, bool)) == 0


@each
def test_it_is_finite_where_all_is_alike_or_sure(name):
    statistic, _ = STATISTICS[name]
    for z in (jnp.zeros((4, 3)), 1e4 * jnp.eye(3), jnp.full((4, 3), 7.0).at[:, 1:].set(-jnp.inf)):
        if name == "norm_growth" and not np.isfinite(z).all():
            continue
        value, gradient = jax.value_and_grad(statistic)(z)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["entropy", "information_maximisation"])
def test_gradients(name):
    check_grads(STATISTICS[name][0], (jnp.asarray(Z, jnp.float32),), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_the_gradient_of_the_nuclear_norm_is_that_of_its_value():
    check_grads(bnm, (jnp.asarray(Z, jnp.float32),), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_the_weights_of_class_confusion_are_constants():
    z = jnp.asarray(Z, jnp.float32)
    p = jax.nn.softmax(z / 2.5)
    w = 1 + jnp.exp(jnp.sum(p * jnp.log(p), axis=1))
    w = 5 * w / w.sum()

    def fixed(z):
        p = jax.nn.softmax(z / 2.5)
        c = p.T @ (w[:, None] * p)
        c /= c.sum(1, keepdims=True)
        return (c.sum() - jnp.trace(c)) / 3

    np.testing.assert_allclose(jax.grad(mcc)(z), jax.grad(fixed)(z), atol=1e-6)


def test_every_norm_grows_alike_whatever_it_is():
    f = jnp.array([[0.3, 0.4], [30.0, 40.0], [0.0, 0.0]])
    gradient = jax.grad(lambda f: norm_growth(f, growth=0.5))(f)
    np.testing.assert_allclose(gradient, -np.array([[0.6, 0.8], [0.6, 0.8], [0, 0]]) / 3, rtol=1e-5)


@each
def test_what_is_no_matrix_is_refused(name):
    with pytest.raises(ft.InputError, match=r"\[batch, (classes|dim)\], but they are \[2, 3, 4\]"):
        STATISTICS[name][0](jnp.ones((2, 3, 4)))


def test_the_norms_of_both_domains_grow():
    model = ft.small_convnet(4, num_labels=3, channels=(8,), hidden=32)
    rows = {"pixels": jax.random.normal(jax.random.key(0), (4, 4, 4, 1))}
    batch = {"source": rows | {"labels": jnp.array([0, 1, 2, 0])}, "target": rows}
    objective = ft.combine(task=(ft.cross_entropy("source"), 0.0), grow=ft.adaptive_feature_norm())
    step = ft.make_step(model.apply, ft.full(), objective, ft.adamw(1e-2, weight_decay=0.0))
    frozen, state = step.init(jax.random.key(0), model.params, batch)
    before = jnp.linalg.norm(model.apply(state.delta, rows).features, axis=1)
    state, metrics = step.update(frozen, state, batch)
    assert (jnp.linalg.norm(model.apply(state.delta, rows).features, axis=1) > before).all()
    np.testing.assert_allclose(metrics["grow"], 0.05 * 2, rtol=1e-5)
