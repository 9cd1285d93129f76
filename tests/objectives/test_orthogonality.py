"""The distance of P and Q from orthonormal ones: by hand, over stacks and chains, its gradient, and what it refuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.types import Context, Outputs

P = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
Q = jnp.array([[1.0, 1.0], [0.0, 0.0]])


def loss(delta: Any) -> Any:
    context = Context(lambda *_: Outputs(), {}, delta, jnp.int32(0), jax.random.key(0))
    objective = ft.orthogonality()
    return objective.apply(*objective.init(jax.random.key(0), context), context)[0]


def test_by_hand() -> None:
    # PᵀP − I = diag(0, 3); QQᵀ − I = diag(1, −1)
    parts = {"p": P, "lambda": jnp.ones(2), "q": Q}
    assert float(loss({"w": parts})) == 9 + 2
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), parts)
    delta = ({"w": parts, "bias": None}, {"layers": stacked, "head": jnp.ones((3, 2))})
    assert float(jax.jit(loss)(delta)) == 3 * 11


def test_heads_and_positions_count_with_their_axes() -> None:
    parts = {"p": P.reshape(3, 1, 2), "lambda": jnp.ones(2), "q": Q.reshape(2, 1, 2)}
    assert float(loss({"w": parts})) == 11


def test_gradient_and_precision() -> None:
    parts = {"p": P + 0.1, "lambda": jnp.ones(2), "q": Q - 0.2}
    check_grads(lambda delta: loss({"w": delta}), (parts,), order=1, modes=["rev"], atol=2e-2, rtol=2e-2)
    half = loss({"w": jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), parts)})
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, loss({"w": parts}), rtol=0.03)


def test_it_refuses_an_adaptation_without_triplets() -> None:
    def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Any:
        return batch["x"] @ params["w"]

    objective = ft.combine(task=ft.cross_entropy(), orthogonal=(ft.orthogonality(), 0.1))
    step = ft.make_step(model, ft.lora("w", rank=1), objective, optax.sgd(0.1))
    batch = {"x": jnp.ones((2, 3)), "labels": jnp.array([0, 1])}
    with pytest.raises(ft.InputError, match=r"orthogonality expects an adaptation with jaxft\.adalora"):
        step.init(jax.random.key(0), {"w": jnp.ones((3, 2))}, batch)
