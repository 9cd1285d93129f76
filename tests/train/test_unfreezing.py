"""Freezing over time: one program and a program a phase give the same run, and the phases cost less."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.types import Objective, StepFrozen, TrainState

WIDTH, EVERY = 48, 3
GROUPS = ["head/**", "layer_1/**", "layer_0/**"]


def deep(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
    x = batch["x"]
    for index in range(2):
        layer = params[f"layer_{index}"]
        x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ params["head"]["kernel"]


def make_params() -> Any:
    keys = jax.random.split(jax.random.key(1), 3)
    layers = {
        f"layer_{i}": {"kernel": jax.random.normal(keys[i], (WIDTH, WIDTH)) / WIDTH**0.5, "bias": jnp.zeros(WIDTH)}
        for i in range(2)
    }
    return {**layers, "head": {"kernel": 0.1 * jax.random.normal(keys[2], (WIDTH, 3))}}


PARAMS = make_params()
X = jax.random.normal(jax.random.key(2), (32, WIDTH))
BATCH = {"x": X, "labels": jnp.argmax(X[:, :3], axis=1)}
ADAPTATIONS = {
    "full": ft.full(),
    "chain": ft.chain(ft.lora("layer_*/kernel", rank=2, dropout=0.2), ft.tune("head/**"), ft.tune("layer_*/bias")),
}
OPTIMIZERS = {
    "adamw, clipped": ft.adamw(1e-2, weight_decay=0.1, clip=0.05),
    "adamw, accumulated": ft.adamw(1e-2, weight_decay=0.1, accumulate=EVERY),
    "momentum and a schedule": optax.sgd(ft.warmup_linear(0.3, 20), momentum=0.9),
    "by layer": ft.layerwise_rates(ft.adamw(1e-2, clip=0.05), decay=2.0, layers=2),
}


def learning_objective() -> Objective:
    """Cross-entropy at a learned temperature, so that the objective has an array of its own."""
    inner = ft.cross_entropy()

    def init(key: Any, context: Any) -> Any:
        return (), {"temperature": jnp.float32(1.0)}, ()

    def apply(frozen: Any, weights: Any, memory: Any, context: Any) -> Any:
        loss, (memory, metrics) = inner.apply((), (), (), context)
        return loss * weights["temperature"] ** 2, (memory, metrics)

    return Objective(init, apply)


def traced(adaptation: ft.Adaptation, optimizer: Any, steps: int, objective: Any) -> tuple[StepFrozen, TrainState, Any]:
    step = ft.make_step(deep, adaptation, objective, optimizer)
    frozen, state = step.init(jax.random.key(0), PARAMS, BATCH)
    update, losses = jax.jit(step.update, donate_argnums=1), []
    for _ in range(steps):
        state, metrics = update(frozen, state, BATCH)
        losses.append(float(metrics["loss"]))
    return frozen, state, losses


def phased(adaptation: ft.Adaptation, phases: Any, steps: int, objective: Any) -> tuple[StepFrozen, TrainState, Any]:
    frozen = state = None
    losses: list[float] = []
    for index, phase in enumerate(phases):
        step = ft.make_step(deep, ft.narrow(adaptation, phase.selector), objective, phase.optimizer)
        if state is None:
            frozen, state = step.init(jax.random.key(0), PARAMS, BATCH)
        frozen, state = ft.repartition(frozen, state, phase)
        assert int(state.step) == phase.start
        update = jax.jit(step.update, donate_argnums=1)
        end = phases[index + 1].start if index + 1 < len(phases) else steps
        for _ in range(phase.start, end):
            state, metrics = update(frozen, state, BATCH)
            losses.append(float(metrics["loss"]))
    return frozen, state, losses


@pytest.mark.parametrize(("kind", "name"), [("full", "adamw, clipped"), *(("chain", name) for name in OPTIMIZERS)])
def test_one_program_equals_a_program_a_phase(kind: str, name: str) -> None:
    adaptation, optimizer, objective = ADAPTATIONS[kind], OPTIMIZERS[name], learning_objective()
    one = traced(adaptation, ft.gradual_unfreezing(optimizer, GROUPS, every=EVERY), 10, objective)
    phases = ft.unfreezing_phases(optimizer, GROUPS, every=EVERY)
    many = phased(adaptation, phases, 10, objective)
    chex.assert_trees_all_close(one[1].delta, many[1].delta, atol=1e-5)
    chex.assert_trees_all_close(one[1].opt_state, many[1].opt_state, atol=1e-5)
    chex.assert_trees_all_close(one[1].weights, many[1].weights, atol=1e-5)
    np.testing.assert_allclose(one[2], many[2], atol=1e-5)
    chex.assert_trees_all_equal_structs(one[0], many[0])
    start = adaptation.init(jax.random.key(0), PARAMS)[1]
    moved = jax.tree.map(lambda new, old: float(jnp.abs(new - old).max()), one[1].delta, start)
    assert min(jax.tree.leaves(moved)) > 0


def test_linear_probing_then_everything() -> None:
    adaptation, objective = ADAPTATIONS["full"], ft.cross_entropy()
    one = traced(adaptation, ft.lp_ft(optax.adam(1e-2), "head/**", steps=4), 8, objective)
    many = phased(adaptation, ft.lp_ft_phases(optax.adam(1e-2), "head/**", steps=4), 8, objective)
    chex.assert_trees_all_close(one[1].delta, many[1].delta, atol=1e-5)
    probe = traced(ft.tune("head/**"), optax.adam(1e-2), 4, objective)
    half = traced(adaptation, ft.lp_ft(optax.adam(1e-2), "head/**", steps=4), 4, objective)
    np.testing.assert_allclose(half[1].delta["head"]["kernel"], probe[1].delta["head"]["kernel"], atol=1e-6)
    for name in ("layer_0", "layer_1"):
        np.testing.assert_array_equal(half[1].delta[name]["kernel"], PARAMS[name]["kernel"])


def test_what_waits_neither_moves_nor_counts() -> None:
    optimizer = ft.gradual_unfreezing(ft.adamw(1.0, clip=1.0, eps=1.0, weight_decay=0.5), ["head", "body"], every=2)
    learned = {"delta": {"body": jnp.array([3.0]), "head": jnp.array([0.0])}}
    gradient = {"delta": {"body": jnp.array([1e6]), "head": jnp.array([0.5])}}
    state = optimizer.init(learned)
    for _ in range(2):
        updates, state = optimizer.update(gradient, state, learned)
        # unclipped, for the norm is of the head alone; Adam's first steps with one gradient are g / (|g| + 1)
        assert float(updates["delta"]["head"][0]) == pytest.approx(-0.5 / 1.5, rel=1e-5)
        assert float(updates["delta"]["body"][0]) == 0.0
    slots = [float(jnp.max(leaf)) for path, leaf in ft.leaf_paths(state).items() if path.endswith("delta/body")]
    assert slots == [0.0, 0.0]
    updates, state = optimizer.update(gradient, state, learned)
    # its first step with the bias corrections of a first step: clipped to 1, 1 / (1 + 1), and the decay of 0.5 · 3
    assert float(updates["delta"]["body"][0]) == pytest.approx(-(0.5 + 1.5), rel=1e-4)


def test_a_schedule_outside_counts_all_steps() -> None:
    halves = optax.piecewise_constant_schedule(1.0, {2: 0.5})
    optimizer = optax.chain(
        ft.gradual_unfreezing(optax.sgd(1.0), ["head", "**"], every=2), optax.scale_by_schedule(halves)
    )
    learned = {"delta": {"body": jnp.ones(1), "head": jnp.ones(1)}}
    state = optimizer.init(learned)
    for _ in range(3):
        updates, state = optimizer.update(learned, state, learned)
    assert float(updates["delta"]["body"][0]) == -0.5


def cost(step: ft.Step, frozen: Any, state: Any) -> tuple[float, int]:
    compiled = jax.jit(step.update, donate_argnums=1).lower(frozen, state, BATCH).compile()
    memory = compiled.memory_analysis()
    return compiled.cost_analysis()["flops"], memory.argument_size_in_bytes + memory.temp_size_in_bytes


def test_early_phases_have_fewer_slots_bytes_and_flops() -> None:
    optimizer, objective = ft.adamw(1e-2), ft.cross_entropy()
    whole = ft.make_step(deep, ft.full(), objective, ft.gradual_unfreezing(optimizer, GROUPS, every=EVERY))
    costs, slots, frozen, state = [], [], None, None
    for phase in ft.unfreezing_phases(optimizer, GROUPS, every=EVERY):
        step = ft.make_step(deep, ft.narrow(ft.full(), phase.selector), objective, phase.optimizer)
        if state is None:
            frozen, state = step.init(jax.random.key(0), PARAMS, BATCH)
        frozen, state = ft.repartition(frozen, state, phase)
        costs.append(cost(step, frozen, state))
        slots.append(sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)))
    full = cost(whole, *whole.init(jax.random.key(0), PARAMS, BATCH))
    head, layer, rows = 3 * WIDTH, WIDTH * (WIDTH + 1), len(X)
    assert slots == [  # two moments of each array, a count of steps for each group and one of all
        2 * head + 2,
        2 * (head + layer) + 3,
        2 * (head + 2 * layer) + 4,
    ]
    for (flops, size), (later_flops, later_size) in zip(costs, [*costs[1:], full], strict=True):
        assert flops <= later_flops
        assert size <= later_size
    products = 2 * rows * WIDTH * WIDTH
    assert costs[0][0] < full[0] - 2.9 * products  # three of five large products are gradients
    assert costs[0][1] < full[1] - 2 * 2 * layer * 4  # the two moments of two layers, four bytes each
    assert costs[2][0] == pytest.approx(full[0], rel=0.02)


def test_a_narrowed_run_can_be_released_and_kept() -> None:
    phase = ft.lp_ft_phases(optax.adam(1e-2), "head/**", steps=4)[0]
    frozen, state, _ = phased(ADAPTATIONS["chain"], [phase], 4, ft.cross_entropy())
    narrowed = ft.narrow(ADAPTATIONS["chain"], phase.selector)
    merged = ft.merge(ADAPTATIONS["chain"], *ft.release(frozen.model, state.delta))
    chex.assert_trees_all_equal(merged, ft.merge(narrowed, frozen.model, state.delta))
    np.testing.assert_array_equal(merged["layer_0"]["kernel"], PARAMS["layer_0"]["kernel"])
    assert float(jnp.abs(merged["head"]["kernel"] - PARAMS["head"]["kernel"]).max()) > 1e-3


def test_params_survive_phases_that_donate() -> None:
    before = ft.fingerprint(PARAMS)
    phased(ADAPTATIONS["full"], ft.lp_ft_phases(optax.adam(1e-2), "head/**", steps=2), 4, ft.cross_entropy())
    assert ft.fingerprint(PARAMS) == before


def test_repartition_compiles() -> None:
    first, second = ft.lp_ft_phases(optax.adam(1e-2), "head/**", steps=4)
    frozen, state, _ = phased(ADAPTATIONS["chain"], [first], 4, ft.cross_entropy())
    eager = ft.repartition(frozen, state, second)
    chex.assert_trees_all_equal(eager, jax.jit(lambda f, s: ft.repartition(f, s, second))(frozen, state))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ft.gradual_unfreezing(optax.sgd(1.0), [], every=1), "expects a list of selectors"),
        (lambda: ft.gradual_unfreezing(optax.sgd(1.0), "head/**", every=1), "expects a list of selectors"),
        (lambda: ft.unfreezing_phases(optax.sgd(1.0), ["**"], every=0), "at least one step .*got 0"),
        (lambda: ft.lp_ft(optax.sgd(1.0), "head/**", steps=1.5), "whole number, but got 1.5"),
    ],
)
def test_wrong_groups_are_refused(make: Any, said: str) -> None:
    with pytest.raises(ft.InputError, match=said):
        make()


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (["hed/**", "**"], "'hed/.*matches none.*nearest: head/kernel"),
        (["head/**", "layer_1/**"], "'layer_0/bias' learns but belongs to none of the 2 groups"),
    ],
)
def test_groups_that_do_not_cover_are_refused(groups: list[str], said: str) -> None:
    step = ft.make_step(deep, ft.full(), ft.cross_entropy(), ft.gradual_unfreezing(optax.sgd(1.0), groups, every=1))
    with pytest.raises(ft.InputError, match=said):
        step.init(jax.random.key(0), PARAMS, BATCH)


@pytest.mark.parametrize("kind", ADAPTATIONS)
def test_l2_sp_keeps_what_begins_later_near_where_it_was(kind: str) -> None:
    near = ft.l2_sp(alpha=0.5, beta=0.1)
    objective = ft.combine(task=ft.cross_entropy(), near=near)
    optimizer, adaptation = optax.adam(1e-2), ADAPTATIONS[kind]
    one = traced(adaptation, ft.gradual_unfreezing(optimizer, GROUPS, every=EVERY), 9, objective)
    many = phased(adaptation, ft.unfreezing_phases(optimizer, GROUPS, every=EVERY), 9, objective)
    np.testing.assert_allclose(one[2], many[2], atol=1e-5)
    chex.assert_trees_all_close(one[1].delta, many[1].delta, atol=1e-5)
    chex.assert_trees_all_equal(one[0], many[0])  # the anchors too: those from before anything learnt


def test_an_anchor_outlives_a_pause() -> None:
    first, second = ft.lp_ft_phases(optax.sgd(0.1), "head/**", steps=4)
    objective = ft.combine(task=ft.cross_entropy(), near=ft.l2_sp())
    frozen, state, _ = phased(ADAPTATIONS["full"], [first, second], 6, objective)
    anchors = frozen.objective
    for phase in (first, second):
        frozen, state = ft.repartition(frozen, state, phase)
    assert float(jnp.abs(state.delta["layer_0"]["kernel"] - PARAMS["layer_0"]["kernel"]).max()) > 1e-4
    chex.assert_trees_all_equal(frozen.objective, anchors)


def test_a_head_that_waits_is_refused_by_l2_sp() -> None:
    phase = ft.unfreezing_phases(optax.sgd(0.1), ["layer_*/**", "head/**"], every=2)[0]
    with pytest.raises(ft.InputError, match=r"'head/\*\*' matches none of the 4 leaves"):
        phased(ADAPTATIONS["full"], [phase], 1, ft.combine(task=ft.cross_entropy(), near=ft.l2_sp()))


def test_orthogonality_counts_the_triplets_that_learn() -> None:
    adaptation = ft.chain(ft.adalora("layer_*/kernel", rank=2), ft.tune("head/**"))
    objective = ft.combine(task=ft.cross_entropy(), orthogonal=(ft.orthogonality(), 0.1))
    phases = ft.lp_ft_phases(optax.adam(1e-2), "head/**", steps=2)
    _, state, losses = phased(adaptation, phases, 4, objective)
    probe = phased(adaptation, phases[:1], 2, ft.cross_entropy())[2]
    np.testing.assert_allclose(losses[:2], probe, atol=1e-6)
    fresh = phased(adaptation, phases, 3, ft.cross_entropy())[2]
    assert losses[2] > fresh[2] + 1e-3
    parts = state.delta[0]["layer_0"]["kernel"]
    assert float(jnp.abs(parts["lambda"]).max()) > 0
    lone = ft.make_step(deep, ft.narrow(adaptation, "**/lambda"), objective, optax.sgd(0.1))
    with pytest.raises(ft.InputError, match=r"layer_0/kernel' only \['lambda'\] do"):
        lone.init(jax.random.key(0), PARAMS, BATCH)
