"""The step: shared forward passes, running statistics, views without labels, weights and memory of an objective."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.types import Context, Objective

KEY = jax.random.key(0)
BATCH = {
    "source": {"x": jnp.arange(6.0).reshape(3, 2), "labels": jnp.array([0, 1, 0])},
    "target": {"x": jnp.ones((3, 2))},
}
PARAMS = {"kernel": jnp.eye(2)}


def linear(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
    return batch["x"] @ params["kernel"]


def test_five_terms_cost_one_forward_a_view() -> None:
    runs = []

    def counted(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        runs.append(batch)
        return linear(params, batch)

    terms = {f"term_{i}": (ft.cross_entropy("source"), 0.2) for i in range(5)}
    step = ft.make_step(counted, ft.full(), ft.combine(**terms), optax.sgd(0.1))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    runs.clear()
    jax.eval_shape(step.update, frozen, state, BATCH)
    assert len(runs) == 1


def test_the_model_sees_neither_labels_nor_mask() -> None:
    seen: set[str] = set()

    def curious(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        seen.update(batch)
        return linear(params, batch)

    batch = {**BATCH["source"], "mask": jnp.array([True, True, False])}
    step = ft.make_step(curious, ft.full(), ft.cross_entropy(), optax.sgd(0.1))
    frozen, state = step.init(KEY, PARAMS, batch)
    step.update(frozen, state, batch)
    assert seen == {"x"}


def asking(forward: Any) -> Objective:
    def apply(frozen: Any, weights: Any, memory: Any, context: Context) -> Any:
        return forward(context), (memory, {})

    return Objective(lambda key, context: ((), (), ()), apply)


def test_a_second_forward_is_asked_for_explicitly() -> None:
    def noisy(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        noise = jax.random.normal(key, batch["x"].shape) if train else 0.0
        return (batch["x"] + noise) @ params["kernel"]

    def differences(context: Context) -> jax.Array:
        first, again = context.forward("target").logits, context.forward("target").logits
        other = context.forward("target", key=jax.random.key(9)).logits
        changed = context.forward("target", x=2 * context.batch["target"]["x"], train=False).logits
        quiet = context.forward("target", train=False).logits
        return jnp.stack([jnp.abs(a - b).max() for a, b in ((first, again), (first, other), (2 * quiet, changed))])

    found: list[Any] = []

    def objective(context: Context) -> jax.Array:
        values = differences(context)
        jax.debug.callback(found.append, values)
        return values.sum()

    step = ft.make_step(noisy, ft.full(), asking(objective), optax.sgd(0.0))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    step.update(frozen, state, BATCH)
    jax.effects_barrier()
    same, other, changed = found[-1]
    assert same == 0
    assert other > 0.1
    assert changed < 1e-6


def test_changed_inputs_keep_the_randomness_of_their_view() -> None:
    def noisy(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        return batch["x"] @ params["kernel"] + jax.random.normal(key, (3, 1))

    def gap(context: Context) -> jax.Array:
        context.forward("source")
        once = context.forward("target", x=jnp.zeros((3, 2))).logits
        plain, again = context.forward("target").logits, context.forward("target", x=jnp.zeros((3, 2))).logits
        other = context.forward("target", x=jnp.zeros((3, 2)), key=jax.random.key(9)).logits
        moved = plain - context.batch["target"]["x"] @ PARAMS["kernel"]
        gaps = [jnp.abs(once - part).max() for part in (again, moved, other)]
        return jnp.where((gaps[0] == 0) & (gaps[1] < 1e-5) & (gaps[2] > 0.1), 1.0, jnp.nan)

    step = ft.make_step(noisy, ft.freeze("none"), asking(gap), optax.sgd(0.0))
    frozen, state = step.init(KEY, PARAMS | {"none": jnp.zeros(1)}, BATCH)
    assert step.update(frozen, state, BATCH)[1]["loss"] == 1


def test_views_get_different_randomness_and_steps_too() -> None:
    def random(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        return params["kernel"][0, 0] * jax.random.uniform(key, (3,))

    def objective(context: Context) -> jax.Array:
        return jnp.sum(jnp.abs(context.forward("source").logits - context.forward("target").logits))

    step = ft.make_step(random, ft.full(), asking(objective), optax.sgd(0.0))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    state, first = step.update(frozen, state, BATCH)
    state, second = step.update(frozen, state, BATCH)
    assert first["loss"] > 0
    assert first["loss"] != second["loss"]


def normalised(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    mean = batch["x"].mean(axis=0) if train else params["norm"]["mean"]
    stats = {"norm": {"mean": 0.5 * params["norm"]["mean"] + 0.5 * mean}} if train else None
    return ft.Outputs(logits=(batch["x"] - mean) @ params["norm"]["kernel"], stats=stats)


def test_running_statistics_are_state_that_no_gradient_reaches() -> None:
    params = {"norm": {"mean": jnp.zeros(2), "kernel": jnp.eye(2)}}
    step = ft.make_step(normalised, ft.full(), ft.cross_entropy("source"), optax.adamw(0.1, weight_decay=0.5))
    frozen, state = step.init(KEY, params, BATCH)
    assert set(ft.leaf_paths(state.delta)) == {"norm/kernel"}
    mean = np.zeros(2)
    for _ in range(2):
        state, _ = jax.jit(step.update)(frozen, state, BATCH)
        mean = 0.5 * mean + 0.5 * np.array([2.0, 3.0])
        np.testing.assert_allclose(state.stats["norm"]["mean"], mean, rtol=1e-6)
    merged = ft.merge(ft.full(), frozen.model, state.delta, stats=state.stats)
    np.testing.assert_allclose(merged["norm"]["mean"], mean, rtol=1e-6)
    assert ft.evaluate(normalised, merged, [BATCH["source"]])["accuracy"] >= 0


def test_statistics_that_the_params_lack_are_refused() -> None:
    def strange(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
        return ft.Outputs(logits=linear(params, batch), stats={"elsewhere": jnp.zeros(2)})

    step = ft.make_step(strange, ft.full(), ft.cross_entropy("source"), optax.sgd(0.1))
    with pytest.raises(ft.InputError, match="elsewhere"):
        step.init(KEY, PARAMS, BATCH)


def test_an_objective_may_learn_and_remember() -> None:
    def init(key: Any, context: Context) -> Any:
        return {"target": jnp.float32(3.0)}, {"guess": jnp.float32(0.0)}, {"calls": jnp.int32(0)}

    def apply(frozen: Any, weights: Any, memory: Any, context: Context) -> Any:
        loss = (weights["guess"] - frozen["target"]) ** 2 + 0 * context.forward("source").logits.sum()
        return loss, ({"calls": memory["calls"] + 1}, {})

    step = ft.make_step(linear, ft.full(), Objective(init, apply), optax.sgd(0.25))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    for _ in range(20):
        state, metrics = step.update(frozen, state, BATCH)
    assert float(state.weights["guess"]) == pytest.approx(3.0, abs=1e-4)
    assert int(state.memory["calls"]) == 20
    assert frozen.objective == {"target": 3.0}
    assert metrics["grad_norm"] < 1e-3


def test_an_unknown_view_is_refused() -> None:
    step = ft.make_step(linear, ft.full(), ft.cross_entropy("sauce"), optax.sgd(0.1))
    with pytest.raises(ft.InputError, match=r"'sauce', but the batch has \['source', 'target'\]"):
        step.init(KEY, PARAMS, BATCH)


@pytest.mark.parametrize("name", ["loss", "grad_norm", "step"])
def test_a_term_named_as_a_metric_of_the_step_is_refused(name: str) -> None:
    step = ft.make_step(linear, ft.full(), ft.combine(**{name: ft.cross_entropy("source")}), optax.sgd(0.1))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    with pytest.raises(ft.InputError, match=f"a metric '{name}', as the step does"):
        step.update(frozen, state, BATCH)


def test_every_key_at_init_is_another() -> None:
    seen: list[Any] = []

    def random(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        seen.append(key)
        return linear(params, batch)

    def init(key: Any, context: Context) -> Any:
        context.forward("source")
        seen.extend([key, context.key, jax.random.fold_in(key, 0), jax.random.fold_in(context.key, 0)])
        return (), (), ()

    step = ft.make_step(random, ft.full(), ft.cross_entropy("source")._replace(init=init), optax.sgd(0.1))
    step.init(KEY, PARAMS, BATCH)
    found = [tuple(jax.random.key_data(key).tolist()) for key in seen[-5:]]
    assert len(set(found)) == 5


def test_the_same_seed_gives_the_same_bits() -> None:
    adaptation = ft.lora("kernel", rank=1, axes="io", dropout=0.5)
    step = ft.make_step(linear, adaptation, ft.cross_entropy("source"), optax.adam(0.1))

    def run(seed: int) -> str:
        frozen, state = step.init(jax.random.key(seed), PARAMS, BATCH)
        update = jax.jit(step.update)
        for _ in range(3):
            state, _ = update(frozen, state, BATCH)
        return ft.fingerprint(state)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_donated_state_leaves_the_base_alone() -> None:
    params = {"kernel": jnp.eye(2)}
    step = ft.make_step(linear, ft.full(), ft.cross_entropy("source"), optax.sgd(0.1))
    frozen, state = step.init(KEY, params, BATCH)
    jax.jit(step.update, donate_argnums=1)(frozen, state, BATCH)
    np.testing.assert_array_equal(params["kernel"], np.eye(2))


def test_labels_of_views_do_not_reach_a_model_that_takes_them_all() -> None:
    seen: list[Any] = []

    def curious(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        seen.append(jax.tree.map(jnp.shape, batch))
        return linear(params, batch["source"])

    step = ft.make_step(curious, ft.full(), asking(lambda context: context.forward().logits.sum()), optax.sgd(0.1))
    step.init(KEY, PARAMS, BATCH)
    assert seen[0] == {"source": {"x": (3, 2)}, "target": {"x": (3, 2)}}
