"""DoRA: columns of a learned length, in a direction that learns by low rank."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.weights import LowRank, Scaled, lift


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


W = jnp.array([[3.0, 0.0], [4.0, 2.0]])
A, B = jnp.array([[1.0], [0.0]]), jnp.array([[1.0, 3.0]])


def merged(adaptation: ft.Adaptation, w: Any, delta: Any) -> Any:
    return ft.merge(adaptation, {"w": w}, {"w": delta})["w"]


def test_values_by_hand() -> None:
    adaptation = ft.dora("w", rank=1, alpha=1.0)
    _, delta = adaptation.init(jax.random.key(0), {"w": W})
    np.testing.assert_allclose(delta["w"]["m"], [5.0, 2.0])
    # W + A B = [[4, 3], [4, 2]] with columns of length sqrt(32) and sqrt(13)
    expected = np.array([[4.0, 3.0], [4.0, 2.0]]) / np.sqrt([32, 13]) * [10.0, 3.0]
    np.testing.assert_allclose(
        merged(adaptation, W, {"a": A, "b": B, "m": jnp.array([10.0, 3.0])}), expected, rtol=1e-6
    )


def test_the_norm_is_a_constant_for_the_gradient() -> None:
    adaptation = ft.dora("w", rank=1, alpha=1.0)

    def product(b: Any, m: Any) -> Any:
        params = adaptation.bind({"w": W}, {"w": {"a": A, "b": b, "m": m}})
        return jnp.sum(lift(lambda w, x: x @ w)(params["w"], jnp.array([[1.0, 0.0]])))

    to_b, to_m = jax.grad(product, (0, 1))(B, jnp.array([10.0, 3.0]))
    np.testing.assert_allclose(to_b, [[10 / 32**0.5, 3 / 13**0.5]], rtol=1e-6)
    np.testing.assert_allclose(to_m, [4 / 32**0.5, 3 / 13**0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes", "over"),
    [
        ((6, 4), None, (0,)),
        ((3, 3, 2, 5), None, (0, 1, 2)),
        ((6, 3, 4), "ioo", (0,)),
        ((3, 4, 6), "iio", (0, 1)),
        ((5, 6, 4), "bio", (1,)),
    ],
)
@pytest.mark.parametrize("stabilised", [False, True])
def test_columns_have_the_length_m_over_all_inputs(
    shape: tuple[int, ...], axes: str | None, over: tuple[int, ...], stabilised: bool
) -> None:
    adaptation = ft.dora("w", rank=2, alpha=3.0, rank_stabilized=stabilised, axes=axes)
    plain = ft.lora("w", rank=2, alpha=3.0, rank_stabilized=stabilised, axes=axes)
    frozen, delta = adaptation.init(jax.random.key(0), {"w": normal(*shape)})
    np.testing.assert_allclose(delta["w"]["m"], jnp.sqrt(jnp.sum(frozen["w"] ** 2, axis=over)), rtol=1e-5)
    changed = {"w": {**delta["w"], "b": normal(*delta["w"]["b"].shape, seed=1), "m": 1 + delta["w"]["m"]}}
    summed = ft.merge(plain, frozen, {"w": {"a": changed["w"]["a"], "b": changed["w"]["b"]}})["w"]
    length = jnp.sqrt(jnp.sum(summed**2, axis=over, keepdims=True))
    m = changed["w"]["m"].reshape(length.shape)
    np.testing.assert_allclose(ft.merge(adaptation, frozen, changed)["w"], m * summed / length, rtol=2e-5, atol=1e-5)


def test_a_column_of_zeros_stays_finite_and_learns() -> None:
    adaptation = ft.dora("w", rank=1)
    frozen, delta = adaptation.init(jax.random.key(0), {"w": W.at[:, 0].set(0.0)})

    def loss(delta: Any) -> Any:
        return jnp.sum(lift(lambda w, x: x @ w)(adaptation.bind(frozen, delta)["w"], jnp.ones((1, 2))))

    value, gradient = jax.value_and_grad(loss)(delta)
    np.testing.assert_allclose(value, 2.0)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    assert float(jnp.abs(gradient["w"]["b"][0, 0])) > 0


def test_it_starts_as_the_base_in_bfloat16() -> None:
    params = {"w": normal(64, 32).astype(jnp.bfloat16)}
    adaptation = ft.dora("w", rank=2)
    bound = adaptation.bind(*adaptation.init(jax.random.key(0), params))["w"]
    assert isinstance(bound, Scaled)
    assert isinstance(bound.base, LowRank)
    np.testing.assert_array_equal(bound.factor, 1.0)


def test_the_length_is_of_the_rounded_weight() -> None:
    params = {"w": normal(64, 32)}
    adaptation = ft.chain(ft.quantise("w", kind="nf4"), ft.dora("w", rank=2))
    frozen, delta = adaptation.init(jax.random.key(0), params)
    rounded = frozen["w"].materialise()
    np.testing.assert_allclose(delta[1]["w"]["m"], jnp.linalg.norm(rounded, axis=0), rtol=1e-6)
    np.testing.assert_allclose(ft.merge(adaptation, frozen, delta)["w"], rounded, rtol=1e-6)


def test_dropout_acts_on_the_branch_alone() -> None:
    adaptation = ft.dora("w", rank=1, alpha=1.0, dropout=0.5)
    delta = {"w": {"a": A, "b": 0 * B, "m": jnp.array([10.0, 4.0])}}
    product = lift(lambda w, x: x @ w)
    dropped = [
        product(adaptation.bind({"w": W}, {"w": {**delta["w"], "b": b}}, key=jax.random.key(1))["w"], jnp.ones((50, 2)))
        for b in (0 * B, B)
    ]
    np.testing.assert_allclose(dropped[0], jnp.tile(jnp.array([[14.0, 4.0]]), (50, 1)), rtol=1e-6)
    # The first input reaches the branch as 0 or 2: x W + x A B is [7, 2] or [9, 8].
    rows = np.unique(np.round(np.asarray(dropped[1] / jnp.array([10 / 32**0.5, 4 / 13**0.5])), 3), axis=0)
    np.testing.assert_allclose(rows, [[7, 2], [9, 8]], atol=1e-3)


def test_a_masked_rank_learns_as_a_small_one() -> None:
    masked = ft.dora("w", rank=ft.MaskedRank(jnp.int32(1), largest=3), alpha=1.0)
    delta = {"a": jnp.concatenate([A, normal(2, 2)], axis=1), "b": jnp.concatenate([B, normal(2, 2)]), "m": jnp.ones(2)}
    few = ft.dora("w", rank=1, alpha=1.0)
    np.testing.assert_allclose(merged(masked, W, delta), merged(few, W, {"a": A, "b": B, "m": jnp.ones(2)}), rtol=1e-6)


@pytest.mark.parametrize(("rank", "dropout"), [(0, 0.0), (2, 1.0)])
def test_settings_out_of_range_are_refused(rank: int, dropout: float) -> None:
    with pytest.raises(ft.InputError, match="expects a"):
        ft.dora("w", rank=rank, dropout=dropout)
