"""The laws that hold for every adaptation, on every kind of model."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.train import Checkpointer
from jaxft.weights import lift
from tests.laws.methods import METHODS, RANDOM, build
from tests.laws.subjects import HIDDEN, ROWS, SUBJECTS, Subject
from tests.laws.tiny_bert import tiny_bert

KINDS = SUBJECTS | {"bert": tiny_bert}
ON_ALL = ("full", "lora")
"""Methods whose laws `make test` tries on every kind of model."""
ON_FIRST = (
    *("adalora", "bitfit + head", "dora", "ia3 outputs and inputs + head", "int8 + lora", "lokr", "nf4 double + dora"),
    *("lora + head", "mixout + head", "narrow to head", "pissa", "prompt + head", "houlsby + lora"),
    *("prefix + head", "tune head", "vera + head"),
)
"""Those it tries on the first kind of model that has what they need; `make test-all` and `make laws` try all."""


def cases() -> Iterator[Any]:
    assert set(ON_ALL + ON_FIRST) <= METHODS.keys()
    for method, facts in METHODS.items():
        for kind in facts.subjects:
            quick = method in ON_ALL or (method in ON_FIRST and kind == facts.subjects[0])
            yield pytest.param(kind, method, marks=() if quick else pytest.mark.slow)


pytestmark = pytest.mark.parametrize(("kind", "method"), list(cases()))


@pytest.fixture(autouse=True)
def _law_of_the_method(request: pytest.FixtureRequest, method: str) -> None:
    if reason := METHODS[method].exempt.get(request.function.__name__):
        pytest.skip(reason)


@functools.cache
def subject(kind: str) -> Subject:
    return KINDS[kind]()


def perturbed(delta: Any, scale: float = 0.1) -> Any:
    """Moves every trained array away from where it starts, so that no branch is zero."""
    leaves, structure = jax.tree.flatten(delta)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    moved = [
        (leaf + scale * jax.random.normal(key, leaf.shape)).astype(leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)


def logits(apply: Any, params: Any, batch: Any) -> np.ndarray:
    result = jax.jit(lift(apply))(params, batch)
    return np.asarray(result.logits if isinstance(result, ft.Outputs) else result)


def training(kind: str, method: str, rate: Any = 0.05) -> tuple[ft.Step, Subject]:
    model = subject(kind)
    return ft.make_step(model.apply, build(method, model), ft.cross_entropy(), optax.adam(rate)), model


def test_starts_as_the_base_model(kind: str, method: str) -> None:
    model = subject(kind)
    adaptation = build(method, model)
    frozen, delta = adaptation.init(jax.random.key(1), model.params)
    np.testing.assert_allclose(
        logits(model.apply, adaptation.bind(frozen, delta), model.batch),
        logits(model.apply, model.params, model.batch),
        rtol=0,
        atol=METHODS[method].start_error,
    )


def test_bound_equals_merged(kind: str, method: str) -> None:
    model = subject(kind)
    adaptation = build(method, model)
    frozen, delta = adaptation.init(jax.random.key(1), model.params)
    delta = perturbed(delta)
    merged = ft.merge(adaptation, frozen, delta)
    base, leaves = ft.leaf_paths(model.params), ft.leaf_paths(merged)
    chex.assert_trees_all_equal_shapes_and_dtypes({path: leaves[path] for path in base}, base)
    bound = logits(model.apply, adaptation.bind(frozen, delta), model.batch)
    np.testing.assert_allclose(bound, logits(model.apply, merged, model.batch), atol=1e-5)
    assert np.abs(bound - logits(model.apply, model.params, model.batch)).max() > 1e-3


def test_frozen_is_bit_identical_after_training(kind: str, method: str) -> None:
    step, model = training(kind, method)
    frozen, state = step.init(jax.random.key(0), model.params, model.batch)
    before, start = ft.fingerprint(frozen), ft.fingerprint(state.delta)
    update = jax.jit(step.update, donate_argnums=1)
    for _ in range(3):
        state, _ = update(frozen, state, model.batch)
    assert ft.fingerprint(frozen) == before
    assert ft.fingerprint(state.delta) != start


def test_training_lowers_the_loss(kind: str, method: str) -> None:
    step, model = training(kind, method)
    frozen, state = step.init(jax.random.key(0), model.params, model.batch)
    update, losses = jax.jit(step.update), []
    for _ in range(30):
        state, metrics = update(frozen, state, model.batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]


def test_a_selector_that_matches_nothing_raises(kind: str, method: str) -> None:
    model = subject(kind)
    if not METHODS[method].choice(model):
        pytest.skip("takes no selector")
    with pytest.raises(ft.InputError, match=r"matches none.*nearest"):
        METHODS[method].build("**/quary/kernel", model).init(jax.random.key(0), model.params)


def test_parameter_count(kind: str, method: str) -> None:
    model = subject(kind)
    _, delta = build(method, model).init(jax.random.key(0), model.params)
    expected = METHODS[method].trained(model)
    assert sum(leaf.size for leaf in jax.tree.leaves(delta)) == expected
    assert ft.summary(build(method, model), model.params).trained == expected


def test_one_trace_for_many_steps(kind: str, method: str) -> None:
    step, model = training(kind, method)
    frozen, state = step.init(jax.random.key(0), model.params, model.batch)
    traces = []

    def counted(*arguments: Any) -> Any:
        traces.append(arguments)
        return step.update(*arguments)

    update = jax.jit(counted)
    for index in range(4):
        state, _ = update(frozen, state, jax.tree.map(lambda rows, index=index: jnp.roll(rows, index, 0), model.batch))
    assert (int(state.step), len(traces)) == (4, 1)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtype_is_kept(kind: str, method: str, dtype: Any) -> None:
    model = subject(kind)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), model.params)
    adaptation = build(method, model)
    frozen, delta = adaptation.init(jax.random.key(0), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(delta)} == {jnp.dtype(dtype)}
    assert {leaf.dtype for leaf in jax.tree.leaves(ft.merge(adaptation, frozen, delta))} == {jnp.dtype(dtype)}


def test_checkpoint_round_trip_is_bit_exact(kind: str, method: str, tmp_path: Path) -> None:
    step, model = training(kind, method)
    frozen, state = step.init(jax.random.key(0), model.params, model.batch)
    state, _ = jax.jit(step.update)(frozen, state, model.batch)
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(state)
    _, fresh = step.init(jax.random.key(9), model.params, model.batch)
    restored = checkpointer.restore_latest(fresh)
    checkpointer.close()
    assert restored is not None
    chex.assert_trees_all_equal_structs(restored.state, state)
    assert ft.fingerprint(restored.state) == ft.fingerprint(state)


def test_mapped_runs_equal_a_loop_of_runs(kind: str, method: str) -> None:
    step, model = training(kind, method)
    keys = jax.random.split(jax.random.key(0), 3)
    axis = 0 if METHODS[method].draws_frozen else None
    start = jax.jit(jax.vmap(step.init, in_axes=(0, None, None), out_axes=(axis, 0)))
    frozen, states = start(keys, model.params, model.batch)
    update = jax.jit(step.update)
    many = jax.jit(jax.vmap(step.update, in_axes=(axis, 0, None)))
    stacked = states
    for _ in range(3):
        stacked, _ = many(frozen, stacked, model.batch)
    for index in range(3):
        state = jax.tree.map(lambda leaf, index=index: leaf[index], states)
        own = frozen if axis is None else jax.tree.map(lambda leaf, index=index: leaf[index], frozen)
        for _ in range(3):
            state, _ = update(own, state, model.batch)
        one = jax.tree.map(lambda leaf, index=index: leaf[index], stacked.delta)
        chex.assert_trees_all_close(one, state.delta, atol=1e-4)


def test_gradient_reaches_every_trained_leaf(kind: str, method: str) -> None:
    model = subject(kind)
    adaptation = build(method, model)
    frozen, delta = adaptation.init(jax.random.key(0), model.params)

    def loss(delta: Any) -> jax.Array:
        outputs = lift(model.apply)(adaptation.bind(frozen, delta), model.batch)
        values = outputs.logits if isinstance(outputs, ft.Outputs) else outputs
        return jnp.sum(jnp.sin(values + jnp.arange(values.shape[-1])))

    gradient = jax.jit(jax.grad(loss))(perturbed(delta))
    for path, leaf in ft.leaf_paths(gradient).items():
        assert float(jnp.max(jnp.abs(leaf))) > 0, path


def test_the_compiled_step_has_no_gradient_of_a_frozen_weight(kind: str, method: str) -> None:
    if any(word in method for word in RANDOM):
        pytest.skip("random bits count as FLOPs and hide the products")

    def flops(name: str) -> float:
        step, model = training(kind, name)
        frozen, state = step.init(jax.random.key(0), model.params, model.batch)
        return jax.jit(step.update).lower(frozen, state, model.batch).compile().cost_analysis()["flops"]

    effective = METHODS[method].effective_rank
    rank = effective if effective is not None else 4 if "lora" in method else 0
    branches = 3 * 2 * ROWS * rank * 2 * (2 * HIDDEN) if kind in SUBJECTS else 0
    adapter = branches + 2 * ROWS * METHODS[method].added_products
    saved = 2 * ROWS * METHODS[method].frozen_products
    elementwise = 0.1 * flops("full")
    assert flops(method) <= flops("full") - saved + adapter + (elementwise if saved else 0)


def test_randomness_enters_by_the_key_alone(kind: str, method: str) -> None:
    model = subject(kind)
    adaptation = build(method, model)
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    delta = perturbed(delta)

    def run(key: Any) -> np.ndarray:
        return logits(model.apply, adaptation.bind(frozen, delta, key=key), model.batch)

    np.testing.assert_array_equal(run(None), run(None))
    np.testing.assert_array_equal(run(jax.random.key(1)), run(jax.random.key(1)))
    differs = bool(np.any(run(jax.random.key(1)) != run(jax.random.key(2))))
    assert differs == any(word in method for word in RANDOM)
