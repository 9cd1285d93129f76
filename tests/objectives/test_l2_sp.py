"""L2-SP: values by hand, the links of a chain, and a start that nothing takes away."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import half_squared_distance
from jaxft.types import Context

PARAMS = {
    "encoder": {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]]), "bias": jnp.array([0.5, -0.5])},
    "head": {"kernel": jnp.array([[1.0], [2.0]])},
}
MOVED = {
    "encoder": {"kernel": jnp.array([[1.0, 0.0], [3.0, 5.0]]), "bias": jnp.array([0.5, 1.5])},
    "head": {"kernel": jnp.array([[3.0], [-1.0]])},
}
DISTANCE, NORM = (4 + 1 + 4) / 2, (9 + 1) / 2


def context(delta: Any) -> Context:
    return Context(lambda view=None: None, {}, delta, jnp.int32(0), jax.random.key(0))


def loss(objective: ft.Objective, start: Any, now: Any) -> jax.Array:
    return objective.apply(*objective.init(jax.random.key(0), context(start)), context(now))[0]


def test_by_hand() -> None:
    np.testing.assert_allclose(loss(ft.l2_sp(), PARAMS, MOVED), 0.1 * DISTANCE + 0.01 * NORM, rtol=1e-6)
    traced = jax.jit(lambda alpha, beta: loss(ft.l2_sp(alpha=alpha, beta=beta), PARAMS, MOVED))(2.0, 3.0)
    np.testing.assert_allclose(traced, 2 * DISTANCE + 3 * NORM, rtol=1e-6)


def test_without_a_head_all_stays_near_its_start() -> None:
    found = loss(ft.l2_sp(alpha=1.0, head=None), PARAMS, MOVED)
    np.testing.assert_allclose(found, DISTANCE + (4 + 9) / 2, rtol=1e-6)


def test_it_reports_both_sums() -> None:
    objective = ft.l2_sp()
    state = objective.init(jax.random.key(0), context(PARAMS))
    metrics = objective.apply(*state, context(MOVED))[1][1]
    assert (metrics["distance"], metrics["head"]) == (DISTANCE, NORM)


def test_gradients() -> None:
    objective = ft.l2_sp(alpha=0.7, beta=0.3)
    check_grads(lambda now: loss(objective, PARAMS, now), (MOVED,), order=1, modes=["rev"], rtol=1e-2)
    slope = jax.grad(lambda now: loss(objective, PARAMS, now))(MOVED)
    np.testing.assert_allclose(slope["encoder"]["bias"], 0.7 * (MOVED["encoder"]["bias"] - PARAMS["encoder"]["bias"]))
    np.testing.assert_allclose(slope["head"]["kernel"], 0.3 * MOVED["head"]["kernel"], rtol=1e-6)


@pytest.mark.parametrize("head", ["head/**", ft.glob("head/kernel"), ~ft.glob("encoder/**"), ("head/*", "**/head/*")])
@pytest.mark.parametrize("nested", [False, True])
def test_a_selector_sees_the_links_of_a_chain_as_one_tree(head: Any, nested: bool) -> None:
    encoder, new = ft.tune("encoder/**"), ft.tune("head/**")
    adaptation = ft.chain(new, ft.chain(encoder)) if nested else ft.chain(encoder, new)

    def delta(params: Any) -> Any:
        return adaptation.init(jax.random.key(0), params)[1]

    found = loss(ft.l2_sp(alpha=1.0, beta=1.0, head=head), delta(PARAMS), delta(MOVED))
    np.testing.assert_allclose(found, DISTANCE + NORM, rtol=1e-6)


def test_the_parts_of_an_adapted_weight_stay_near_theirs() -> None:
    adaptation = ft.chain(ft.lora("encoder/kernel", rank=1), ft.tune("head/**"))
    start = adaptation.init(jax.random.key(0), PARAMS)[1]
    now = jax.tree.map(lambda leaf: leaf + 1, start)
    found = loss(ft.l2_sp(alpha=1.0, beta=0.0), start, now)
    np.testing.assert_allclose(found, 4 / 2, rtol=1e-5)


def test_a_head_that_does_not_learn_is_refused() -> None:
    delta = ft.tune("encoder/**").init(jax.random.key(0), PARAMS)[1]
    with pytest.raises(ft.InputError, match=r"'head/\*\*' matches none of the 2 leaves; nearest: encoder"):
        ft.l2_sp().init(jax.random.key(0), context(delta))


def test_distances_of_bfloat16_are_summed_in_float32() -> None:
    many = {"w": jnp.full(4096, 1 / 16, jnp.bfloat16), "hole": None}
    assert half_squared_distance(many) == 8
    assert half_squared_distance({"hole": None}) == 0


def test_the_start_outlives_a_donated_state() -> None:
    def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        return (batch["x"] @ params["encoder"]["kernel"] + params["encoder"]["bias"]) @ params["head"]["kernel"]

    objective = ft.combine(task=ft.mean_squared_error(), near=ft.l2_sp(alpha=1.0, beta=0.0))
    step = ft.make_step(model, ft.full(), objective, optax.sgd(0.01))
    batch = {"x": jnp.ones((3, 2)), "labels": jnp.zeros(3)}
    frozen, state = step.init(jax.random.key(0), PARAMS, batch)
    update = jax.jit(step.update, donate_argnums=1)
    near = []
    for _ in range(3):
        state, metrics = update(frozen, state, batch)
        near.append(float(metrics["near"]))
    assert near[0] == 0
    assert near[1] > 0
    moved = jax.tree.map(jnp.subtract, state.delta["encoder"], PARAMS["encoder"])
    found = update(frozen, state, batch)[1]["near/distance"]
    np.testing.assert_allclose(found, half_squared_distance(moved), rtol=1e-5)
