"""DeepJDOT: the cost by loops, the plan held still, and rows that take no part."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.objectives import label_cost
from jaxft.types import Context, Outputs

RNG = np.random.default_rng(0)
G_S, G_T = RNG.normal(size=(5, 4)), RNG.normal(size=(6, 4))
Z_S, Z_T = RNG.normal(size=(5, 3)), RNG.normal(size=(6, 3))
Y = np.array([0, 2, 1, 1, 0])


def log_softmax(z: Any) -> Any:
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def cost(alpha: float, label_weight: float) -> Any:
    found = np.zeros((5, 6))
    for i, j in np.ndindex(5, 6):
        found[i, j] = alpha * ((G_S[i] - G_T[j]) ** 2).sum() - label_weight * log_softmax(Z_T)[j, Y[i]]
    return found


def plan_of(c: Any, epsilon: float) -> Any:
    kernel = np.exp(-c / (epsilon * c.mean()))
    u, v = np.ones(5), np.ones(6)
    for _ in range(5000):
        u = 1 / 5 / (kernel @ v)
        v = 1 / 6 / (kernel.T @ u)
    return u[:, None] * kernel * v


def context(g_s: Any, g_t: Any, z_t: Any, source: Any, target: Any) -> Context:
    outputs = {"source": Outputs(features=g_s, logits=jnp.asarray(Z_S)), "target": Outputs(features=g_t, logits=z_t)}
    batch = {"source": source, "target": target}
    return Context(lambda view: outputs[view], batch, (), jnp.int32(0), jax.random.key(0))


def loss(*values: Any, source: Any = None, target: Any = None, **options: Any) -> Any:
    arrays = [jnp.asarray(value, jnp.float32) for value in values]
    found = context(*arrays, {"labels": jnp.asarray(Y)} if source is None else source, target or {})
    return ft.deepjdot(**options).apply((), (), (), found)[0]


@pytest.mark.parametrize(("alpha", "label_weight"), [(1.0, 1.0), (1e-3, 1e-4), (1.0, 0.0), (0.0, 1.0)])
def test_the_loss_by_loops(alpha: float, label_weight: float) -> None:
    c = cost(alpha, label_weight)
    found = loss(G_S, G_T, Z_T, alpha=alpha, label_weight=label_weight, epsilon=0.1)
    np.testing.assert_allclose(found, (plan_of(c, 0.1) * c).sum(), rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_cost_under_a_plan_held_still() -> None:
    plan = plan_of(cost(1.0, 0.5), 0.1)
    slopes = jax.grad(lambda *v: loss(*v, alpha=1.0, label_weight=0.5, epsilon=0.1), argnums=(0, 1, 2))(
        *(jnp.asarray(v, jnp.float32) for v in (G_S, G_T, Z_T))
    )
    of_source = 2 * (plan.sum(1)[:, None] * G_S - plan @ G_T)
    of_target = 2 * (plan.sum(0)[:, None] * G_T - plan.T @ G_S)
    mass = plan.T @ np.eye(3)[Y]
    of_logits = 0.5 * (mass.sum(1, keepdims=True) * np.exp(log_softmax(Z_T)) - mass)
    for found, expected in zip(slopes, (of_source, of_target, of_logits), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_rows_that_do_not_count_take_no_part() -> None:
    options: dict[str, Any] = {"alpha": 1.0, "label_weight": 1.0, "epsilon": 0.1}
    broken = np.full((2, 4), np.nan)
    source = {"labels": jnp.array([*Y, 1, -100]), "mask": jnp.arange(7) != 5}
    target = {"mask": jnp.arange(8) < 6}
    g_s, g_t = np.concatenate([G_S, np.ones((2, 4))]), np.concatenate([G_T, broken])
    z_t = np.concatenate([Z_T, broken[:, :3]])
    plain = loss(G_S, G_T, Z_T, **options)
    np.testing.assert_allclose(loss(g_s, g_t, z_t, source=source, target=target, **options), plain, rtol=1e-5)
    told = target | {"labels": jnp.zeros(8, int)}
    assert loss(g_s, g_t, z_t, source=source, target=told, **options) == loss(
        g_s, g_t, z_t, source=source, target=target, **options
    )
    none = {"labels": jnp.asarray(Y), "mask": jnp.zeros(5, bool)}
    value, slope = jax.value_and_grad(lambda g: loss(g, G_T, Z_T, source=none))(jnp.asarray(G_S, jnp.float32))
    assert value == 0
    assert not slope.any()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_finite_where_domains_are_the_same_or_large(scale: float) -> None:
    same = jnp.asarray(G_S * scale, jnp.float32)
    logits = jnp.asarray(Z_S * scale, jnp.float32)
    value, slopes = jax.value_and_grad(loss, argnums=(0, 1, 2))(same, same, logits)
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes)


def net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    features = jnp.tanh(batch["x"] @ params["body"])
    return Outputs(logits=features @ params["head"], features=features)


def test_it_brings_a_shifted_domain_nearer_in_one_program() -> None:
    params = {"body": jnp.eye(4), "head": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)}
    x = jnp.asarray(G_S, jnp.float32)
    batch = {"source": {"x": x, "labels": jnp.asarray(Y)}, "target": {"x": x + 1.0}}
    objective = ft.combine(task=ft.cross_entropy("source"), transport=ft.deepjdot(alpha=1.0, label_weight=0.1))
    step = ft.make_step(net, ft.full(), objective, optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), params, batch)
    update, seen = jax.jit(step.update), []
    for _ in range(20):
        state, metrics = update(frozen, state, batch)
        seen.append(float(metrics["transport/features"]))
    assert seen[-1] < 0.5 * seen[0]


def test_labels_that_are_no_class_are_seen_and_what_does_not_fit_is_refused() -> None:
    assert np.isnan(loss(G_S, G_T, Z_T, source={"labels": jnp.asarray(Y) + 2}))
    with pytest.raises(ft.InputError, match=r"whole numbers .* but they are float32"):
        label_cost(jnp.ones(2), jnp.ones((2, 3)))
    with pytest.raises(ft.InputError, match="needs labels"):
        loss(G_S, G_T, Z_T, source={"x": jnp.ones(5)})
    with pytest.raises(ft.InputError, match=r"\[5, 4\] and \[6, 3\]; spaces of different size are coupled by"):
        loss(G_S, G_T[:, :3], Z_T)
