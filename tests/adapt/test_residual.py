"""PiSSA and OLoRA: what they take out of the weight, what they leave, and how it is told from the original."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.adapt import Taken, double_rank

KEY = jax.random.key(0)
W = jax.random.normal(jax.random.key(1), (6, 4))


def test_pissa_takes_the_largest_singular_values() -> None:
    frozen, delta = ft.pissa("w", rank=2, alpha=6.0).init(KEY, {"w": W})
    a, b, values = delta["w"]["a"], delta["w"]["b"], np.linalg.svd(W, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(frozen.params["w"], compute_uv=False)[:2], values[2:], atol=1e-5)
    np.testing.assert_allclose(np.linalg.svd(3 * a @ b, compute_uv=False)[:2], values[:2], rtol=1e-5)
    for gram in (a.T @ a, b @ b.T):
        np.testing.assert_allclose(gram, np.diag(values[:2]) / 3, atol=1e-5)
    np.testing.assert_allclose(frozen.params["w"] + 3 * a @ b, W, atol=1e-6)


def test_olora_takes_the_first_rows_of_the_triangle() -> None:
    frozen, delta = ft.olora("w", rank=2).init(KEY, {"w": W})
    q, r = np.linalg.qr(np.asarray(W).T)
    np.testing.assert_allclose(delta["w"]["a"] @ delta["w"]["b"], (q[:, :2] @ r[:2]).T, atol=1e-5)
    np.testing.assert_allclose(delta["w"]["b"] @ delta["w"]["b"].T, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(frozen.params["w"], (q[:, 2:] @ r[2:]).T, atol=1e-5)


@pytest.mark.parametrize("method", [ft.pissa, ft.olora])
def test_the_scale_is_one_unless_alpha_is_given(method: Any) -> None:
    adaptation = method("w", rank=3)
    frozen, delta = adaptation.init(KEY, {"w": W})
    assert float(adaptation.bind(frozen, delta)["w"].scale.ravel()[0]) == 1.0
    assert float(method("w", rank=3, alpha=6.0).bind(frozen, delta)["w"].scale.ravel()[0]) == 2.0


@pytest.mark.parametrize("method", [ft.pissa, ft.olora])
@pytest.mark.parametrize("axes", ["io", "ioo", "bio"])
def test_the_change_of_the_original_has_twice_the_rank(method: Any, axes: str) -> None:
    w = jax.random.normal(KEY, {"io": (6, 4), "ioo": (6, 2, 2), "bio": (3, 6, 4)}[axes])
    adaptation = method("w", rank=2, alpha=3.0, axes=axes)
    frozen, delta = adaptation.init(KEY, {"w": w})
    delta = jax.tree.map(lambda leaf: leaf + 0.3, delta)
    taken, stack = frozen.extra["w"], int(axes == "bio")
    assert isinstance(taken, Taken)
    a, b = double_rank(delta["w"]["a"], delta["w"]["b"], taken, batch_axes=stack)
    assert a.shape == (*w.shape[: stack + 1], 4)
    assert b.shape == (*w.shape[:stack], 4, *w.shape[stack + 1 :])
    plain = ft.lora("w", rank=4, alpha=6.0, axes=axes)  # 2α/2r is the same scale
    exported = ft.merge(plain, {"w": w}, {"w": {"a": a, "b": b}})["w"]
    np.testing.assert_allclose(exported, ft.merge(adaptation, frozen, delta)["w"], atol=2e-6)


def test_in_bfloat16_the_frozen_weight_makes_up_for_the_rounding_of_the_factors() -> None:
    w = jax.random.normal(KEY, (64, 48)).astype(jnp.bfloat16)
    adaptation = ft.pissa("w", rank=8)
    frozen, delta = adaptation.init(KEY, {"w": w})
    assert {leaf.dtype for leaf in jax.tree.leaves((frozen, delta))} == {jnp.dtype(jnp.bfloat16)}
    error = np.abs(np.asarray(ft.merge(adaptation, frozen, delta)["w"] - w, np.float32))
    assert error.max() <= 2**-8 * float(jnp.abs(w).max())  # one rounding of the frozen weight, one of the sum


def test_they_take_what_a_chain_left_frozen() -> None:
    params = {"w": W, "head": jnp.ones((4, 2))}
    adaptation = ft.chain(ft.tune("head"), ft.pissa("w", rank=1))
    frozen, delta = adaptation.init(KEY, params)
    np.testing.assert_allclose(ft.merge(adaptation, frozen, delta)["w"], W, atol=1e-6)
    assert isinstance(frozen.extra[1]["w"], Taken)
