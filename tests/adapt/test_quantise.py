"""A base in few bits: smaller in memory, close to what it was, and adapted as any other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft

PARAMS = {
    "up": {"kernel": jax.random.normal(jax.random.key(0), (128, 64)), "bias": jnp.ones(64)},
    "down": {"kernel": jax.random.normal(jax.random.key(1), (64, 128)), "bias": jnp.ones(128)},
}
KINDS: dict[str, dict[str, Any]] = {
    "int8": {"kind": "int8"},
    "nf4": {"kind": "nf4"},
    "nf4 double": {"kind": "nf4", "double": True},
}


@pytest.mark.parametrize(("name", "share"), [("int8", 0.3), ("nf4", 0.18), ("nf4 double", 0.16)])
def test_the_table_shows_the_bytes(name: str, share: float) -> None:
    adaptation = ft.chain(ft.quantise("up/kernel", **KINDS[name]), ft.lora("up/kernel", rank=2))
    rows = {row.path: row for row in ft.summary(adaptation, PARAMS, optax.adam(1e-3)).rows}
    row, factors = rows["up/kernel"], 4 * 2 * (128 + 64)
    frozen, _ = adaptation.init(jax.random.key(0), PARAMS)
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(frozen["up"]["kernel"]))
    assert (row.role, row.parameters) == (f"low-rank 2 on {name[:4].strip()}", 128 * 64)
    assert row.bytes == kept + factors
    assert kept <= share * 4 * 128 * 64
    assert rows["down/kernel"].bytes == 4 * 128 * 64
    alone = {row.path: row for row in ft.summary(ft.quantise("up/kernel", **KINDS[name]), PARAMS).rows}
    assert (alone["up/kernel"].bytes, alone["up/kernel"].trained) == (kept, 0)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("int8", 0.003, 0.01), ("nf4", 0.05, 0.1), ("nf4 double", 0.05, 0.1)]
)
def test_the_error_is_reported_for_each_weight(name: str, least: float, most: float) -> None:
    adaptation = ft.chain(ft.quantise("*/kernel", **KINDS[name]), ft.lora("up/kernel"))
    frozen, _ = adaptation.init(jax.random.key(0), PARAMS)
    errors = ft.quantisation_error(PARAMS, frozen)
    assert set(errors) == {"up/kernel", "down/kernel"}
    for path, error in errors.items():
        before, after = ft.leaf_paths(PARAMS)[path], frozen[path.partition("/")[0]]["kernel"].materialise()
        np.testing.assert_allclose(error, np.linalg.norm(before - after) / np.linalg.norm(before), rtol=1e-5)
        assert least < float(error) < most


def test_stacked_weights_are_rounded_one_by_one() -> None:
    w = jnp.stack([jnp.ones((6, 4)), 100 * jnp.ones((6, 4))])
    for name, options in KINDS.items():
        frozen, _ = ft.quantise("w", **options, axes="bio").init(jax.random.key(0), {"w": w})
        np.testing.assert_allclose(frozen["w"].materialise(), w, rtol=1e-6, err_msg=name)
    assert frozen["w"].stack == (2,)


def test_only_a_kind_it_has() -> None:
    with pytest.raises(ft.InputError, match="'int8', 'nf4', but got 'int4'"):
        ft.quantise("w", kind="int4")
    with pytest.raises(ft.InputError, match="which int8 has not"):
        ft.quantise("w", double=True)


def test_vectors_and_rounded_weights_are_refused() -> None:
    with pytest.raises(ft.InputError, match="quantise expects matrices, but 'up/bias'"):
        ft.quantise("up/*").init(jax.random.key(0), PARAMS)
    frozen, _ = ft.quantise("up/kernel").init(jax.random.key(0), PARAMS)
    with pytest.raises(ft.InputError, match="'up/kernel' is int8 already"):
        ft.quantise("up/kernel", kind="nf4").init(jax.random.key(0), frozen)


def test_a_rounded_weight_is_not_trained_by_another_link() -> None:
    with pytest.raises(ft.InputError, match="overlap at 'up/kernel'"):
        ft.chain(ft.quantise("up/kernel"), ft.tune("up/**")).init(jax.random.key(0), PARAMS)


def test_no_error_to_report_without_a_rounded_weight() -> None:
    with pytest.raises(ft.InputError, match="no weight is kept in parts"):
        ft.quantisation_error(PARAMS, PARAMS)


def batch(vocabulary: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "input_ids": rng.integers(1000, vocabulary, (4, 12), dtype=np.int32),
        "attention_mask": np.ones((4, 12), np.int32),
        "labels": np.array([0, 1, 0, 1], np.int32),
        "mask": np.ones(4, bool),
    }


@pytest.fixture(scope="module")
def minilm() -> ft.Model:
    return ft.load_model("minilm", task="classify", num_labels=2)


@pytest.mark.parametrize(("name", "bound"), [("int8", 0.05), ("nf4", 0.35)])
def test_features_of_a_real_model_move_little(minilm: ft.Model, name: str, bound: float) -> None:
    data = batch(minilm.config.vocab_size)
    chosen = ft.glob("encoder/**/kernel", "embeddings/word/embedding")
    adaptation = ft.quantise(chosen, **KINDS[name])
    frozen, delta = adaptation.init(jax.random.key(0), minilm.params)

    def features(params: Any) -> Any:
        return ft.lift(minilm.apply)(params, data).features

    base, bound_to = jax.jit(features)(minilm.params), jax.jit(features)(adaptation.bind(frozen, delta))
    merged = jax.jit(features)(ft.merge(adaptation, frozen, delta))
    np.testing.assert_allclose(bound_to, merged, atol=1e-4)
    moved = float(jnp.linalg.norm(bound_to - base) / jnp.linalg.norm(base))
    assert bound / 20 < moved < bound


@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
def test_adapters_learn_on_a_real_model_in_four_bits(minilm: ft.Model, method: str) -> None:
    data = batch(minilm.config.vocab_size)
    build = {
        "lora": lambda: ft.lora("**/attention/{query,value}/kernel", rank=4),
        "dora": lambda: ft.dora("**/attention/{query,value}/kernel", rank=4),
        "ia3": lambda: ft.ia3("**/attention/{key,value}/kernel", inputs="**/feed_forward/down/kernel"),
    }
    adaptation = ft.chain(ft.quantise("encoder/**/kernel", kind="nf4"), build[method](), ft.tune("head/**"))
    step = ft.make_step(minilm.apply, adaptation, ft.cross_entropy(), optax.adam(5e-3))
    frozen, state = step.init(jax.random.key(0), minilm.params, data)
    before, update, losses = ft.fingerprint(frozen), jax.jit(step.update), []
    for _ in range(8):
        state, metrics = update(frozen, state, data)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert ft.fingerprint(frozen) == before
