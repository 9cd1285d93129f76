"""Several adapters in one batch: each row as if alone, one program, little more than one adapter's work."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from tests.laws.methods import METHODS, build
from tests.laws.subjects import SUBJECTS
from tests.laws.tiny_bert import tiny_bert

KINDS = SUBJECTS | {"bert": tiny_bert}
IDS = np.array([2, 0, 1, 1, 2])


def perturbed(delta: Any, seed: int) -> Any:
    leaves, structure = jax.tree.flatten(delta)
    keys = jax.random.split(jax.random.key(seed), max(len(leaves), 1))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=False)]
    return jax.tree.unflatten(structure, moved)


def rows(batch: Any, count: int) -> Any:
    return {name: leaf[:count] for name, leaf in batch.items() if name != "labels"}


def rows_at(batch: Any, row: int) -> Any:
    return {name: leaf[row : row + 1] for name, leaf in batch.items()}


@pytest.mark.parametrize("method", METHODS)
def test_each_row_is_as_if_alone(method: str) -> None:
    model = KINDS[METHODS[method].subjects[0]]()
    adaptation = build(method, model)
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    deltas = [perturbed(delta, seed) for seed in range(3)]
    batch = rows(model.batch, len(IDS))
    found = jax.jit(ft.serve(model.apply, adaptation))(frozen, ft.stack_deltas(deltas), IDS, batch).logits
    assert found.shape[0] == len(IDS)
    for row, index in enumerate(IDS):
        alone = ft.lift(model.apply)(adaptation.bind(frozen, deltas[index]), rows_at(batch, row)).logits
        np.testing.assert_allclose(found[row], alone[0], atol=1e-5)
    assert float(jnp.abs(found[2] - ft.lift(model.apply)(model.params, batch).logits[2]).max()) > 1e-3


def test_a_new_adapter_takes_a_place_without_another_program() -> None:
    model = SUBJECTS["linen"]()
    adaptation = build("lora + head", model)
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    traces = []

    def counted(*arguments: Any) -> Any:
        traces.append(arguments)
        return ft.serve(model.apply, adaptation)(*arguments)

    answer, swap = jax.jit(counted), jax.jit(ft.swap_delta)
    stacked, batch = ft.stack_deltas([perturbed(delta, seed) for seed in range(2)]), rows(model.batch, 2)
    before = answer(frozen, stacked, np.array([0, 1]), batch).logits
    fresh = perturbed(delta, 9)
    after = answer(frozen, swap(stacked, 1, fresh), np.array([0, 1]), batch).logits
    again = answer(frozen, ft.swap_delta(stacked, 1, fresh), np.array([1, 1]), batch).logits
    assert len(traces) == 1
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(after[1], again[1])
    alone = ft.lift(model.apply)(adaptation.bind(frozen, fresh), batch).logits
    np.testing.assert_allclose(again, alone, atol=1e-5)


@pytest.fixture(scope="module")
def minilm() -> ft.Model:
    return ft.load_model("minilm", task="classify", num_labels=2)


def test_adapters_of_a_real_model_share_its_products(minilm: ft.Model) -> None:
    adaptation = ft.chain(ft.lora("**/attention/{query,value}/kernel", rank=4), ft.tune("head/**"))
    frozen, delta = adaptation.init(jax.random.key(0), minilm.params)
    deltas = [perturbed(delta, seed) for seed in range(3)]
    texts = ["a fine film", "dull from start to end", "not for me", "see it twice", "no"]
    batch = dict(minilm.tokenizer(texts, padding="max_length", max_length=16, return_tensors="np"))
    answer = jax.jit(ft.serve(minilm.apply, adaptation)).lower(frozen, ft.stack_deltas(deltas), IDS, batch).compile()
    found = answer(frozen, ft.stack_deltas(deltas), IDS, batch)
    alone = jax.jit(lambda frozen, delta, batch: ft.lift(minilm.apply)(adaptation.bind(frozen, delta), batch))
    for index in range(3):
        mine = np.equal(IDS, index)
        chex.assert_trees_all_close(found.logits[mine], alone(frozen, deltas[index], batch).logits[mine], atol=1e-4)
    flops = alone.lower(frozen, deltas[0], batch).compile().cost_analysis()["flops"]
    assert answer.cost_analysis()["flops"] < 1.02 * flops


def test_deltas_that_differ_are_refused() -> None:
    with pytest.raises(
        ft.InputError, match=r"'kernel/a' is float32\[6, 1\] in the first and float32\[6, 2\] in number 2"
    ):
        ft.stack_deltas([{"kernel": {"a": jnp.ones((6, rank))}} for rank in (1, 2)])
    with pytest.raises(ft.InputError, match="number 2 lacks 'kernel'"):
        ft.stack_deltas([{"kernel": jnp.ones(2)}, {"kernel": None}])
    with pytest.raises(ft.InputError, match=r"float32\[2\] in the first and bfloat16\[2\]"):
        ft.stack_deltas([{"kernel": jnp.ones(2, dtype)} for dtype in (jnp.float32, jnp.bfloat16)])
    stacked = ft.stack_deltas([{"kernel": jnp.ones(2)}] * 2)
    with pytest.raises(ft.InputError, match="the stack has 2 adapters, numbered from 0, but the index is 2"):
        ft.swap_delta(stacked, 2, {"kernel": jnp.ones(2)})
    with pytest.raises(ft.InputError, match=r"'kernel' is float32\[2\] in the first and float32\[3\]"):
        ft.swap_delta(stacked, 0, {"kernel": jnp.ones(3)})


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (np.array([0, 2]), "the stack has 2 adapters, numbered from 0, but the ids name 2"),
        (np.array([-1, 0]), "ids name -1"),
        (np.array([0.0, 1.0]), "vector of whole numbers"),
        (np.array([[0], [1]]), "vector of whole numbers"),
        (np.array([0, 1, 1]), r"a row for each of the 3 ids, but 'x' is \[2, 3\]"),
    ],
)
def test_wrong_ids_are_refused(ids: Any, said: str) -> None:
    answer, frozen, stacked, batch = plain()
    with pytest.raises(ft.InputError, match=said):
        answer(frozen, stacked, ids, batch)


def test_traced_ids_out_of_range_give_no_other_adapters_answer() -> None:
    answer, frozen, stacked, batch = plain()
    found = jax.jit(answer)(frozen, stacked, np.array([2, 1]), batch).logits
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    assert np.isnan(jax.jit(answer)(frozen, stacked, np.array([-1, 1]), batch).logits[0]).all()


def plain() -> tuple[Any, Any, Any, Any]:
    def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        return batch["x"] @ params["kernel"]

    adaptation = ft.full()
    frozen, delta = adaptation.init(jax.random.key(0), {"kernel": jnp.ones((3, 2))})
    return ft.serve(model, adaptation), frozen, ft.stack_deltas([delta, delta]), {"x": np.ones((2, 3), np.float32)}
