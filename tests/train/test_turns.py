"""Updates of several parts: what each learns, in which order, how often, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.train import Checkpointer, restore
from jaxft.types import Context, Objective, Turn

KEY = jax.random.key(0)
PARAMS = {"body": {"kernel": jnp.eye(3)}, "head": {"kernel": jnp.ones((3, 2))}}
BATCH = {"source": {"x": jax.random.normal(KEY, (4, 3)), "labels": jnp.array([0, 1, 0, 1])}}


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    features = jnp.tanh(batch["x"] @ params["body"]["kernel"])
    return ft.Outputs(logits=features @ params["head"]["kernel"], features=features)


def init(key: Any, context: Context) -> Any:
    return (), {"critic": jnp.zeros(3), "other": jnp.ones(())}, {"calls": jnp.int32(0)}


def main(frozen: Any, weights: Any, memory: Any, context: Context) -> Any:
    outputs = context.forward("source")
    loss = jnp.mean(outputs.logits**2) + jnp.mean(outputs.features @ weights["critic"]) + weights["other"] ** 2
    return loss, (memory, {})


def critic(frozen: Any, weights: Any, memory: Any, context: Context) -> Any:
    """Falls as the critic grows along the features' mean."""
    away = weights["critic"] - context.forward("source").features.mean(0)
    return jnp.sum(away**2), ({"calls": memory["calls"] + 1}, {"size": jnp.sum(weights["critic"] ** 2)})


def head(frozen: Any, weights: Any, memory: Any, context: Context) -> Any:
    return jnp.mean(context.forward("source").logits ** 2), (memory, {})


CRITIC = Turn("critic", critic, "weights/critic", repeats=3, optimizer=optax.sgd(0.25), first=True, alone=True)
HEAD = Turn("head", head, "delta/head/**")


def stepped(*turns: Turn, rate: float = 0.1, seed: int = 0, steps: int = 1, wrap: Any = jax.jit) -> Any:
    step = ft.make_step(model, ft.full(), Objective(init, main, turns), optax.sgd(rate))
    frozen, state = step.init(jax.random.key(seed), PARAMS, BATCH)
    update, metrics = wrap(step.update), {}
    for _ in range(steps):
        state, metrics = update(frozen, state, BATCH)
    return state, metrics


def test_a_turn_learns_what_it_says_as_often_as_it_says() -> None:
    state, metrics = stepped(CRITIC, rate=0.0)
    mean = np.asarray(model(PARAMS, BATCH["source"]).features.mean(0))
    expected = np.zeros(3)
    for _ in range(3):
        before, expected = expected, expected - 0.25 * 2 * (expected - mean)
    np.testing.assert_allclose(state.weights["critic"], expected, rtol=1e-5)
    assert float(metrics["critic"]) == pytest.approx(float(((before - mean) ** 2).sum()), rel=1e-5)
    assert float(metrics["critic/size"]) == pytest.approx(float((before**2).sum()), rel=1e-5)
    assert int(state.memory["calls"]) == 3
    np.testing.assert_array_equal(state.delta["body"]["kernel"], PARAMS["body"]["kernel"])
    assert state.weights["other"] == 1


def test_what_a_turn_learns_alone_does_not_learn_in_the_main_part() -> None:
    """The main part's gradient of the critic is not zero, so that it would move."""
    silent = CRITIC._replace(optimizer=optax.sgd(0.0))
    state, _ = stepped(silent)
    np.testing.assert_array_equal(state.weights["critic"], 0)
    assert state.weights["other"] != 1
    state, _ = stepped(silent._replace(alone=False))
    assert np.all(np.asarray(state.weights["critic"]) != 0)


def test_a_first_turn_is_seen_by_the_main_part_and_a_later_one_sees_it() -> None:
    _, before = stepped(CRITIC)
    _, after = stepped(CRITIC._replace(first=False))
    mean = np.asarray(model(PARAMS, BATCH["source"]).features.mean(0))
    plain = float(jnp.mean(model(PARAMS, BATCH["source"]).logits ** 2)) + 1.0
    assert float(after["loss"]) == pytest.approx(plain, rel=1e-5)
    grown = np.zeros(3)
    for _ in range(3):
        grown = grown - 0.5 * (grown - mean)
    assert float(before["loss"]) == pytest.approx(plain + float(mean @ grown), rel=1e-4)
    assert float(after["critic"]) != pytest.approx(float(before["critic"]), rel=1e-3)


def test_a_turn_of_the_model_moves_those_leaves_alone() -> None:
    still, _ = stepped()
    state, metrics = stepped(HEAD)
    np.testing.assert_array_equal(state.delta["body"]["kernel"], still.delta["body"]["kernel"])
    moved = still.delta["head"]["kernel"] - state.delta["head"]["kernel"]
    gradient = jax.grad(lambda params: jnp.mean(model(params, BATCH["source"]).logits ** 2))(still.delta)
    np.testing.assert_allclose(moved, 0.1 * gradient["head"]["kernel"], rtol=1e-4)
    assert set(metrics) == {"loss", "grad_norm", "head"}


def test_turns_of_terms_see_their_own_arrays() -> None:
    plain = Objective(init, main, (CRITIC,))
    both = ft.combine(one=plain, two=(plain, 0.0))
    step = ft.make_step(model, ft.full(), both, optax.sgd(0.0))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    state, metrics = jax.jit(step.update)(frozen, state, BATCH)
    alone, _ = stepped(CRITIC, rate=0.0)
    for term in ("one", "two"):
        np.testing.assert_allclose(state.weights[term]["critic"], alone.weights["critic"], rtol=1e-6)
        assert f"{term}/critic/size" in metrics


def test_compiled_eager_and_mapped_updates_agree() -> None:
    compiled, _ = stepped(CRITIC, HEAD, steps=2)
    eager, _ = stepped(CRITIC, HEAD, steps=2, wrap=lambda update: update)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), compiled[1:6], eager[1:6])
    step = ft.make_step(model, ft.full(), Objective(init, main, (CRITIC, HEAD)), optax.adam(0.1))

    def run(key: Any) -> Any:
        frozen, state = step.init(key, PARAMS, BATCH)
        return step.update(frozen, state, BATCH)[0].delta

    mapped = jax.vmap(run)(jax.random.split(KEY, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5), mapped, run(jax.random.split(KEY, 2)[0]))


def test_a_checkpoint_keeps_the_state_of_every_turn(tmp_path: Path) -> None:
    turns = (CRITIC._replace(optimizer=optax.adam(0.1)), HEAD)
    step = ft.make_step(model, ft.full(), Objective(init, main, turns), optax.adam(0.1))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    update = jax.jit(step.update, donate_argnums=1)
    state, _ = update(frozen, state, BATCH)
    checkpoints = Checkpointer(tmp_path)
    checkpoints.save(state)
    checkpoints.close()
    fresh = step.init(KEY, PARAMS, BATCH)[1]
    found = restore(tmp_path, fresh)
    assert ft.fingerprint(found.state) == ft.fingerprint(state)
    again, _ = update(frozen, found.state, BATCH)
    assert int(again.step) == 2


def test_repeats_that_learn_nothing_of_the_model_share_one_pass_of_it() -> None:
    """Five repeats of a critic cost far less than five passes of a wide model."""
    wide = {"body": {"kernel": jnp.ones((3, 512))}, "head": {"kernel": jnp.ones((512, 2))}}
    batch = {"source": {"x": jnp.ones((64, 3)), "labels": jnp.zeros(64, int)}}

    def products(repeats: int) -> int:
        def light(frozen: Any, weights: Any, memory: Any, context: Context) -> Any:
            return (weights["critic"] - context.forward("source").features.mean()) ** 2, (memory, {})

        def init(key: Any, context: Context) -> Any:
            return (), {"critic": jnp.zeros(())}, ()

        turn = Turn("critic", light, "weights/critic", repeats=repeats, first=True, alone=True)
        objective = Objective(init, ft.cross_entropy("source").apply, (turn,))
        step = ft.make_step(model, ft.full(), objective, optax.sgd(0.1))
        frozen, state = step.init(KEY, wide, batch)
        text = str(jax.make_jaxpr(step.update)(frozen, state, batch))
        return text.count("tanh")

    assert products(5) <= products(1) + 1


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (CRITIC._replace(learns="weights/critik"), "critik"),
        (CRITIC._replace(repeats=0), "whole number of times from 1 up, but got 0"),
        (CRITIC._replace(repeats=True), "whole number of times from 1 up, but got True"),
    ],
)
def test_a_turn_that_cannot_be_taken_is_refused(turn: Turn, message: str) -> None:
    step = ft.make_step(model, ft.full(), Objective(init, main, (turn,)), optax.sgd(0.1))
    with pytest.raises(ft.InputError, match=message):
        step.init(KEY, PARAMS, BATCH)


def test_a_turn_named_as_a_metric_is_refused() -> None:
    with pytest.raises(ft.InputError, match="both named 'loss'"):
        stepped(CRITIC._replace(name="loss"))


def test_two_turns_of_one_name_are_refused() -> None:
    with pytest.raises(ft.InputError, match=r"two turns .*'critic'"):
        stepped(CRITIC, CRITIC)


def test_phases_refuse_an_objective_with_turns() -> None:
    first, second = ft.lp_ft_phases(optax.sgd(0.1), "head/**", steps=1)
    adaptation = ft.narrow(ft.full(), first.selector)
    step = ft.make_step(model, adaptation, Objective(init, main, (CRITIC,)), optax.sgd(0.1))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    with pytest.raises(ft.InputError, match=r"turns.*in one program"):
        ft.repartition(frozen, state, second)
