"""The part of a forward pass that never changes: found, kept, and equal to what it stands for."""

from __future__ import annotations

import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.study.prefix import find_prefix, known_leaves
from tests.study.prefix_cases import (
    BATCH,
    LENGTH,
    assert_close,
    batches_of,
    inputs_of,
    minilm,
    mlp,
    mlp_params,
    mlp_rows,
    prefix_of,
    texts,
    train,
)

HEAD = ft.tune("head/**")
TOP = ft.tune(["encoder/layer_{4,5}/**", "head/**"])
UPPER_LORA = ft.chain(ft.lora("encoder/layer_{4,5}/attention/{query,value}/kernel", dropout=0.1), HEAD)
MLP_LORA = ft.chain(ft.lora("layer_1/kernel", rank=2, alpha=2), HEAD)


@pytest.mark.parametrize(
    ("adaptation", "saved", "floats"),
    [(HEAD, 0.999, 384), (TOP, 0.65, LENGTH * 384), (UPPER_LORA, 0.65, LENGTH * 384)],
    ids=["probe", "top two layers", "LoRA in the upper layers"],
)
def test_training_minilm_is_that_of_the_whole_forward_pass(adaptation: ft.Adaptation, saved: float, floats: int):
    model, rows = minilm(), texts()
    prefix = prefix_of(model.apply, model.params, adaptation, rows)
    assert prefix is not None
    assert prefix.saved > saved
    assert prefix.bytes_per_row == 4 * floats
    columns = prefix.columns(rows, BATCH)
    whole, expected = train(model.apply, model.params, adaptation, batches_of(rows))
    learned, found = train(prefix.apply, model.params, adaptation, batches_of(rows, columns))
    assert_close(found, expected)
    assert_close(learned, whole)


@pytest.mark.parametrize("adaptation", [HEAD, MLP_LORA], ids=["probe", "LoRA"])
def test_training_and_outputs_of_a_plain_function(adaptation: ft.Adaptation):
    params, rows = mlp_params(), mlp_rows()
    prefix = prefix_of(mlp, params, adaptation, rows)
    assert prefix is not None
    columns = prefix.columns(rows, BATCH)
    assert sum(column[0].nbytes for column in columns) == prefix.bytes_per_row
    frozen, delta = adaptation.init(jax.random.key(0), params)
    bound = adaptation.bind(frozen, delta)
    plain, kept = batches_of(rows, count=1)[0], batches_of(rows, columns, count=1)[0]
    assert_close(
        prefix.apply(bound, inputs_of(kept), train=True, key=jax.random.key(0)),
        prefix.apply(bound, inputs_of(plain), train=True, key=jax.random.key(0)),
    )
    whole, expected = train(mlp, params, adaptation, batches_of(rows))
    learned, found = train(prefix.apply, params, adaptation, batches_of(rows, columns))
    assert_close(found, expected)
    assert_close(learned, whole)


def test_nothing_below_what_is_kept_is_computed():
    rows = mlp_rows()
    prefix = prefix_of(mlp, mlp_params(), HEAD, rows)
    assert prefix is not None
    kept = inputs_of(batches_of(rows, prefix.columns(rows, BATCH), count=1)[0])
    kept["x"] = jnp.full_like(kept["x"], jnp.nan)
    outputs = prefix.apply(mlp_params(), kept, train=True, key=jax.random.key(0))
    assert bool(jnp.isfinite(outputs.logits).all() & jnp.isfinite(outputs.features).all())
    assert bool(jnp.isnan(outputs.hidden_states[0]).all())  # what nobody keeps is computed from the inputs


@pytest.mark.parametrize(("adaptation", "limit"), [(TOP, 0.65), (HEAD, 0.001)], ids=["top two layers", "probe"])
def test_a_compiled_step_holds_only_the_rest(adaptation: ft.Adaptation, limit: float):
    model, rows = minilm(), texts()
    prefix = prefix_of(model.apply, model.params, adaptation, rows)
    assert prefix is not None

    def flops(apply: Any, batch: Any) -> float:
        step = ft.make_step(apply, adaptation, ft.cross_entropy(), optax.sgd(0.1))
        frozen, state = step.init(jax.random.key(0), model.params, batch)
        analysis: Any = jax.jit(step.update).lower(frozen, state, batch).compile().cost_analysis()
        return analysis["flops"]

    whole = flops(model.apply, batches_of(rows, count=1)[0])
    assert flops(prefix.apply, batches_of(rows, prefix.columns(rows, BATCH), count=1)[0]) <= limit * whole


def test_many_runs_in_one_traced_program_share_the_activations():
    rows, params = mlp_rows(), mlp_params()

    def run(kept: bool, seed: Any) -> Any:
        frozen, delta = MLP_LORA.init(jax.random.key(seed), params)
        apply: Any = mlp
        columns: Any = {name: jnp.asarray(value) for name, value in rows.items()}
        if kept:
            bound = MLP_LORA.bind(frozen, delta, key=jax.random.key(seed))
            known = known_leaves(MLP_LORA, frozen, delta, jax.random.key(seed))
            shapes = {"x": jax.ShapeDtypeStruct((BATCH, 10), jnp.float32)}
            prefix = find_prefix(mlp, bound, known, shapes)
            assert prefix is not None
            apply = prefix.apply
            columns["prefix"] = tuple(map(jnp.asarray, prefix.columns(rows, BATCH)))
        step = ft.make_step(apply, MLP_LORA, ft.cross_entropy(), optax.sgd(0.05))
        frozen, state = step.init(jax.random.key(seed), params, jax.tree.map(lambda column: column[:BATCH], columns))

        def update(state: Any, key: Any) -> Any:
            chosen = jax.random.permutation(key, 12)[:BATCH]
            return step.update(frozen, state, jax.tree.map(lambda column: column[chosen], columns))

        return jax.lax.scan(update, state, jax.random.split(jax.random.key(seed), 6))[1]

    seeds = jnp.arange(3)
    expected = jax.jit(jax.vmap(partial(run, False)))(seeds)
    assert_close(jax.jit(jax.vmap(partial(run, True)))(seeds), expected)
    assert_close(jax.jit(lambda seeds: jax.lax.map(partial(run, True), seeds))(seeds), expected)


def test_a_batch_of_another_size_starts_from_the_same_activations():
    rows = mlp_rows()
    prefix = prefix_of(mlp, mlp_params(), HEAD, rows)
    assert prefix is not None
    columns = prefix.columns(rows, 5)
    for size in (1, 2, 12):
        batch = {"x": rows["x"][:size], "prefix": tuple(column[:size] for column in columns)}
        logits = prefix.apply(mlp_params(), batch, train=True, key=jax.random.key(0)).logits
        assert_close(logits, mlp(mlp_params(), batch).logits)


def test_evaluation_has_a_prefix_of_its_own():
    model, rows = minilm(None), texts()
    assert prefix_of(model.apply, model.params, HEAD, rows) is None  # dropout in training
    prefix = prefix_of(model.apply, model.params, HEAD, rows, train=False)
    assert prefix is not None
    assert prefix.saved > 0.999
    batch = inputs_of(rows) | {"prefix": prefix.columns(rows, BATCH)}
    places = np.arange(12).reshape(3, BATCH)
    batches = [jax.tree.map(operator.itemgetter(chosen), batch) for chosen in places]
    whole = [{name: value for name, value in batch.items() if name != "prefix"} for batch in batches]
    assert_close(ft.predict(prefix.apply, model.params, batches), ft.predict(model.apply, model.params, whole))
    key = jax.random.key(0)  # the activations of an evaluation are no part of training
    found = prefix.apply(model.params, batches[0], train=True, key=key)
    assert_close(found.logits, model.apply(model.params, whole[0], train=True, key=key).logits)


def test_changes_to_a_view_are_not_served_from_what_is_kept():
    params, rows = mlp_params(), mlp_rows()

    def init(key: Any, context: ft.Context) -> Any:
        return (), (), ()

    def apply(frozen: Any, weights: Any, memory: Any, context: ft.Context) -> Any:
        moved = context.forward(x=context.batch["x"] + 1).logits
        loss = jnp.square(moved).mean() + context.forward().logits.mean()
        return loss, ((), {"moved": moved.sum()})

    objective = ft.Objective(init, apply)
    prefix = prefix_of(mlp, params, HEAD, rows)
    assert prefix is not None
    columns = prefix.columns(rows, BATCH)
    whole, expected = train(mlp, params, HEAD, batches_of(rows), objective)
    learned, found = train(prefix.apply, params, HEAD, batches_of(rows, columns), objective)
    assert_close(found, expected)
    assert_close(learned, whole)


def test_views_have_activations_of_their_own():
    params, rows = mlp_params(), mlp_rows()
    prefix = prefix_of(mlp, params, HEAD, rows)
    assert prefix is not None
    columns = prefix.columns(rows, BATCH)
    objective = ft.cross_entropy("source")
    whole = train(mlp, params, HEAD, [{"source": batch} for batch in batches_of(rows)], objective)
    kept = train(prefix.apply, params, HEAD, [{"source": batch} for batch in batches_of(rows, columns)], objective)
    assert_close(kept, whole)


def test_known_leaves_of_a_structured_weight():
    frozen, delta = MLP_LORA.init(jax.random.key(0), mlp_params())
    known = known_leaves(MLP_LORA, frozen, delta, None)
    leaves = jax.tree.leaves(MLP_LORA.bind(frozen, delta))
    assert [leaf.shape for leaf, same in zip(leaves, known, strict=True) if same] == [(8,), (10, 8), (8, 6)]
    traced = []
    jax.eval_shape(lambda frozen: traced.append(known_leaves(MLP_LORA, frozen, delta, None)), frozen)
    assert not any(traced[0])
    np.testing.assert_array_equal(leaves[0], mlp_params()["head"]["kernel"])
