"""Open-set adaptation: the loss by loops, and a gradient that has the other sign outside the head."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import unknown_cross_entropy
from jaxft.types import Outputs

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(5, 4)) * 2
MASK = np.array([True, False, True, True, False])
X = jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32)
PARAMS = {
    "body": {"kernel": jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)},
    "head": {"kernel": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)},
}
BATCH = {"target": {"x": X}}


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    return Outputs(logits=jnp.tanh(batch["x"] @ params["body"]["kernel"]) @ params["head"]["kernel"])


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_the_loss_by_loops(threshold: float) -> None:
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    rows = [-threshold * np.log(q[3]) - (1 - threshold) * np.log(q[:3].sum()) for q in p[MASK]]
    z = jnp.where(jnp.asarray(MASK)[:, None], jnp.asarray(Z, jnp.float32), jnp.nan)
    loss, slope = jax.value_and_grad(unknown_cross_entropy)(z, threshold=threshold, mask=jnp.asarray(MASK))
    np.testing.assert_allclose(loss, np.mean(rows), rtol=1e-5)
    assert np.isfinite(slope).all()
    check_grads(unknown_cross_entropy, (jnp.asarray(Z, jnp.float32),), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)
    assert np.isfinite(jax.grad(unknown_cross_entropy)(jnp.asarray(Z * 1e4, jnp.float32))).all()


@pytest.mark.parametrize("adaptation", [ft.full(), ft.chain(ft.tune("body/**"), ft.tune("head/**"))])
def test_the_head_minimises_and_the_features_maximise(adaptation: ft.Adaptation) -> None:
    step = ft.make_step(model, adaptation, ft.osbp(), optax.sgd(1.0))
    frozen, state = step.init(jax.random.key(0), PARAMS, BATCH)
    state, metrics = jax.jit(step.update)(frozen, state, BATCH)
    loss, slope = jax.value_and_grad(lambda p: unknown_cross_entropy(model(p, {"x": X}).logits))(PARAMS)
    after = ft.merge(adaptation, frozen.model, state.delta)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    for part, sign in (("head", -1), ("body", 1)):
        expected = PARAMS[part]["kernel"] + sign * slope[part]["kernel"]
        np.testing.assert_allclose(after[part]["kernel"], expected, rtol=1e-5, atol=1e-6)


def test_the_labels_of_the_target_are_not_read() -> None:
    def trained(batch: Any) -> Any:
        step = ft.make_step(model, ft.full(), ft.osbp(), optax.sgd(1.0))
        frozen, state = step.init(jax.random.key(0), PARAMS, batch)
        return step.update(frozen, state, batch)[0].delta["body"]["kernel"]

    np.testing.assert_array_equal(trained({"target": {"x": X, "labels": jnp.zeros(5, int)}}), trained(BATCH))


def test_a_head_that_is_nothing_or_everything_is_refused() -> None:
    for adaptation, head, reason in (
        (ft.full(), "**", "leave some for the features"),
        (
            ft.tune("body/**"),
            lambda tree: {path: path.startswith("head") for path in tree},
            "selects none of the 1 leaves",
        ),
    ):
        step = ft.make_step(model, adaptation, ft.osbp(head=head), optax.sgd(1.0))
        with pytest.raises(ft.InputError, match=reason):
            step.init(jax.random.key(0), PARAMS, BATCH)
    with pytest.raises(ft.InputError, match=r"\[batch, classes \+ 1\], but they are \[2, 1\]"):
        unknown_cross_entropy(jnp.ones((2, 1)))
