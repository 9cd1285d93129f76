"""Mixout: each element is one of two values, the mean is the weight, and evaluation draws nothing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.adapt import mix

W = jnp.linspace(-1.0, 2.0, 12).reshape(3, 4)
START = jnp.linspace(0.5, 1.0, 12).reshape(3, 4)
PARAMS = {
    "encoder": {"kernel": START, "bias": jnp.zeros(4), "step": jnp.arange(2)},
    "head": {"kernel": jnp.ones((4, 2))},
}


@pytest.mark.parametrize("rate", [0.3, 0.9])
def test_by_hand(rate: float) -> None:
    found = np.asarray(mix(jax.random.key(3), W, START, rate), np.float64)
    w, w0 = np.asarray(W, np.float64), np.asarray(START, np.float64)
    kept, replaced = (w - rate * w0) / (1 - rate), (w0 - rate * w0) / (1 - rate)
    is_kept = np.abs(found - kept) < np.abs(found - replaced)
    np.testing.assert_allclose(found, np.where(is_kept, kept, replaced), atol=1e-5)
    assert 0 < is_kept.sum() < is_kept.size


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_the_expectation_is_the_weight_and_the_share_the_rate(rate: float) -> None:
    draws = jax.vmap(lambda key: mix(key, W, START, rate))(jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_allclose(draws.mean(axis=0), W, atol=0.12)
    np.testing.assert_allclose(np.mean(draws == START), rate, atol=0.02)


def test_without_a_key_it_is_tune() -> None:
    adaptation = ft.mixout("encoder/kernel", rate=0.5)
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    moved = jax.tree.map(lambda leaf: leaf + 1, delta)
    np.testing.assert_array_equal(adaptation.bind(frozen, moved)["encoder"]["kernel"], START + 1)
    np.testing.assert_array_equal(ft.merge(adaptation, frozen, moved)["encoder"]["kernel"], START + 1)
    mixed = adaptation.bind(frozen, moved, key=jax.random.key(1))
    assert set(np.unique(mixed["encoder"]["kernel"] - START).round(4).tolist()) == {0, 2}
    np.testing.assert_array_equal(mixed["head"]["kernel"], PARAMS["head"]["kernel"])


def test_leaves_are_mixed_apart_and_a_traced_rate_is_one_program() -> None:
    params = {"a": jnp.zeros(64), "b": jnp.zeros(64)}

    @jax.jit
    def mixed(rate: Any) -> Any:
        adaptation = ft.mixout("**", rate=rate)
        frozen, delta = adaptation.init(jax.random.key(0), params)
        return adaptation.bind(frozen, jax.tree.map(lambda leaf: leaf + 1, delta), key=jax.random.key(1))

    half = mixed(0.5)
    assert np.any((half["a"] > 0) != (half["b"] > 0))
    np.testing.assert_array_equal(mixed(0.0)["a"], 1)
    assert mixed._cache_size() == 1


def test_a_chain_keeps_the_start_through_training() -> None:
    def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Any:
        return jnp.tanh(batch["x"] @ params["encoder"]["kernel"] + params["encoder"]["bias"]) @ params["head"]["kernel"]

    adaptation = ft.chain(ft.mixout("encoder/kernel", rate=0.5), ft.tune("head/**"))
    batch = {"x": jnp.ones((4, 3)), "labels": jnp.array([0, 1, 0, 0])}
    step = ft.make_step(model, adaptation, ft.cross_entropy(), optax.sgd(0.5))
    frozen, state = step.init(jax.random.key(0), PARAMS, batch)
    update = jax.jit(step.update, donate_argnums=1)
    for _ in range(3):
        state, _ = update(frozen, state, batch)
    kernel = adaptation.bind(frozen.model, state.delta)["encoder"]["kernel"]
    mixed = adaptation.bind(frozen.model, state.delta, key=jax.random.key(1))["encoder"]["kernel"]
    assert not jnp.array_equal(kernel, START)
    assert 0 < jnp.sum(mixed == START) < START.size


def test_rates_and_selectors_are_checked() -> None:
    with pytest.raises(ft.InputError, match=r"mixout expects a dropout rate in \[0, 1\), but got 1"):
        ft.mixout("**", rate=1.0)
    with pytest.raises(ft.InputError, match="leaves no floating-point leaf to train"):
        ft.mixout("encoder/step").init(jax.random.key(0), PARAMS)


def test_bfloat16_stays() -> None:
    assert mix(jax.random.key(0), W.astype(jnp.bfloat16), START.astype(jnp.bfloat16), 0.5).dtype == jnp.bfloat16
