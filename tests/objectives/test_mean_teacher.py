"""Mean teacher: the average by hand, a teacher without gradient, and forward passes with another delta."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import consistency, moving_average
from jaxft.types import Outputs

RNG = np.random.default_rng(0)
P, Q = (RNG.normal(size=(5, 3)) * 2 for _ in range(2))
MASK = np.array([True, False, True, True, False])
X, Y = (jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32) for _ in range(2))
PARAMS = {"body": {"kernel": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)}, "head": {"bias": jnp.zeros(3)}}
BATCH = {"source": {"x": X, "labels": jnp.arange(5) % 3}, "target": {"x": Y}}


def softmax(z: Any) -> Any:
    e = np.exp(np.asarray(z, np.float64) - np.max(z, axis=-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    x = batch["x"]
    if train:
        x = x * jax.random.bernoulli(key, 0.5, x.shape)
    return Outputs(logits=x @ params["body"]["kernel"] + params["head"]["bias"])


def test_values_by_loops_and_gradients() -> None:
    expected = np.mean([((softmax(P[i]) - softmax(Q[i])) ** 2).sum() / 3 for i in range(5) if MASK[i]])
    p, q = (jnp.where(jnp.asarray(MASK)[:, None], jnp.asarray(z, jnp.float32), jnp.nan) for z in (P, Q))
    loss, (ours, theirs) = jax.value_and_grad(consistency, argnums=(0, 1))(p, q, mask=jnp.asarray(MASK))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.isfinite(ours).all()
    assert not theirs.any()
    check_grads(
        lambda z: consistency(z, jnp.asarray(Q)), (jnp.asarray(P, jnp.float32),), order=1, modes=["rev"], rtol=1e-2
    )


def run(objective: ft.Objective, adaptation: ft.Adaptation, steps: int, batch: Any = BATCH) -> Any:
    step = ft.make_step(model, adaptation, objective, optax.sgd(0.5))
    frozen, state = step.init(jax.random.key(0), PARAMS, batch)
    update = jax.jit(step.update, donate_argnums=1)
    deltas, metrics = [], {}
    for _ in range(steps):
        deltas.append(jax.tree.map(np.array, state.delta))
        state, metrics = update(frozen, state, batch)
    return deltas, state, metrics


def test_the_teacher_is_the_average_of_the_deltas_that_steps_start_from() -> None:
    objective = ft.combine(task=ft.cross_entropy("source"), calm=ft.mean_teacher(decay=0.7))
    deltas, state, metrics = run(objective, ft.freeze("head/**"), 4)
    average = deltas[0]["body"]["kernel"].astype(np.float64)
    for delta in deltas:
        average = 0.7 * average + 0.3 * delta["body"]["kernel"]
    np.testing.assert_allclose(state.memory["calm"]["body"]["kernel"], average, rtol=1e-5)
    assert np.abs(average - deltas[-1]["body"]["kernel"]).max() > 1e-2
    assert metrics["calm"] > 0


def test_the_loss_is_that_of_the_two_models() -> None:
    def plain(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
        return model(params, batch)

    old = {"body": {"kernel": PARAMS["body"]["kernel"] + 1.0}, "head": {"bias": jnp.zeros(3)}}
    step = ft.make_step(plain, ft.full(), ft.mean_teacher("target", "other", decay=0.9), optax.sgd(0.1))
    batch = {"target": {"x": X}, "other": {"x": Y}}
    frozen, state = step.init(jax.random.key(0), PARAMS, batch)
    _, metrics = step.update(frozen, state._replace(memory=old), batch)
    teacher = {"body": {"kernel": PARAMS["body"]["kernel"] + 0.9}, "head": {"bias": jnp.zeros(3)}}
    expected = np.mean((softmax(plain(PARAMS, {"x": X}).logits) - softmax(plain(teacher, {"x": Y}).logits)) ** 2)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_the_average_of_bfloat16_moves() -> None:
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    step = ft.make_step(model, ft.full(), ft.mean_teacher(), optax.sgd(0.0))
    frozen, state = step.init(jax.random.key(0), params, BATCH)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.memory)} == {jnp.dtype(jnp.float32)}
    moved = state._replace(delta=jax.tree.map(lambda leaf: leaf + 1, state.delta))
    after, _ = step.update(frozen, moved, BATCH)
    change = after.memory["head"]["bias"] - state.memory["head"]["bias"]
    np.testing.assert_allclose(change, np.full(3, 1e-3), rtol=1e-2)


def test_arrays_of_whole_numbers_are_not_averaged() -> None:
    held = moving_average({"w": jnp.zeros(1), "n": jnp.array(3)}, {"w": jnp.ones(1), "n": jnp.array(5)}, decay=0.75)
    assert (float(held["w"][0]), int(held["n"])) == (0.25, 5)


def test_another_delta_of_a_low_rank_adapter() -> None:
    _, state, metrics = run(ft.mean_teacher(), ft.lora("body/kernel", rank=1), 2)
    assert jax.tree.structure(state.memory) == jax.tree.structure(state.delta)
    assert metrics["loss"] > 0  # the dropout of the student, which the teacher is without


def normalised(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    mean = batch["x"].mean(0) if train else params["norm"]["mean"]
    stats = {"norm": {"mean": 0.5 * params["norm"]["mean"] + 0.5 * mean}} if train else None
    return Outputs(logits=(batch["x"] - mean) @ params["kernel"], stats=stats)


@pytest.mark.parametrize("train", [True, False])
def test_a_run_with_another_delta_leaves_running_statistics_alone(train: bool) -> None:
    def apply(frozen: Any, weights: Any, memory: Any, context: Any) -> Any:
        loss = context.forward("source").logits.sum()
        other = context.forward("target", delta=jax.tree.map(lambda leaf: 2 * leaf, context.delta), train=train).logits
        return loss, (memory, {"other": other.sum()})

    params = {"kernel": PARAMS["body"]["kernel"], "norm": {"mean": jnp.ones(4)}}
    objective = ft.Objective(lambda key, context: ((), (), ()), apply)
    step = ft.make_step(normalised, ft.full(), objective, optax.sgd(0.0))
    frozen, state = step.init(jax.random.key(0), params, BATCH)
    state, metrics = jax.jit(step.update)(frozen, state, BATCH)
    after = 0.5 + 0.5 * X.mean(0)
    np.testing.assert_allclose(state.stats["norm"]["mean"], after, rtol=1e-5)
    mean = Y.mean(0) if train else after
    np.testing.assert_allclose(metrics["other"], ((Y - mean) @ (2 * params["kernel"])).sum(), rtol=1e-3, atol=1e-4)


def test_the_labels_of_the_target_are_not_read() -> None:
    told = BATCH | {"target": {"x": Y, "labels": jnp.full(5, 2)}}
    one, other = (run(ft.mean_teacher(), ft.full(), 3, batch)[1].delta for batch in (BATCH, told))
    assert all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_an_average_of_other_arrays_is_refused() -> None:
    step = ft.make_step(model, ft.full(), ft.mean_teacher(), optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), PARAMS, BATCH)
    with pytest.raises(ft.InputError, match="of other arrays than those that learn now"):
        step.update(frozen, state._replace(memory={"body": state.memory["body"]}), BATCH)


def test_views_that_do_not_belong_together_are_refused() -> None:
    batch = {"target": {"x": X}, "other": {"x": Y[:2]}}
    with pytest.raises(ft.InputError, match=r"row i of 'other' .* row i of 'target', .* \[2, 3\] and \[5, 3\]"):
        run(ft.mean_teacher("target", "other"), ft.full(), 1, batch)
    with pytest.raises(ft.InputError, match=r"but they are \[2, 3\] and \[2, 4\]"):
        consistency(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ft.InputError, match="reads the view 'target'"):
        run(ft.mean_teacher(), ft.full(), 1, {"source": {"x": X}})
