"""Virtual adversarial training: the direction of one exact power iteration, and what it must leave alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import kl_divergence
from jaxft.objectives.noise import unit_noise
from jaxft.types import Context, Outputs

RNG = np.random.default_rng(0)
KERNEL = jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)
X = jnp.asarray(RNG.normal(size=(4, 2, 3)), jnp.float32)
P, Q = (RNG.normal(size=(4, 3)) * 2 for _ in range(2))


def softmax(z: Any) -> Any:
    e = np.exp(np.asarray(z, np.float64) - np.max(z, axis=-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(z: Any, other: Any) -> float:
    p, q = softmax(z), softmax(other)
    return float(sum(p[c] * (np.log(p[c]) - np.log(q[c])) for c in range(len(p))))


def test_the_divergence_by_loops_and_its_gradient() -> None:
    mask = np.array([True, False, True, True])
    p, q = (jnp.where(jnp.asarray(mask)[:, None], jnp.asarray(z, jnp.float32), jnp.nan) for z in (P, Q))
    loss, slopes = jax.value_and_grad(kl_divergence, argnums=(0, 1))(p, q, mask=jnp.asarray(mask))
    np.testing.assert_allclose(loss, np.mean([kl(P[i], Q[i]) for i in range(4) if mask[i]]), rtol=1e-5)
    assert all(np.isfinite(slope).all() for slope in slopes)
    pair = (jnp.asarray(P, jnp.float32), jnp.asarray(Q, jnp.float32))
    check_grads(kl_divergence, pair, order=1, modes=["rev"], atol=2e-3, rtol=1e-2, eps=3e-2)
    out = jnp.array([[0.0, 1.0, -jnp.inf]])
    assert np.isfinite(jax.grad(kl_divergence, argnums=1)(out, out + jnp.array([1.0, 0.0, 0.0]))).all()


def model(kernel: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    return Outputs(logits=batch["x"].reshape(-1, 6) @ kernel)


def loss_of(kernel: Any, batch: Any, **options: Any) -> Any:
    def forward(view: Any = None, *, train: bool = True, **changes: Any) -> Outputs:
        return model(kernel, {**batch, **changes})

    context = Context(forward, {"target": batch}, kernel, jnp.int32(0), jax.random.key(1))
    objective = ft.vat(input="x", **options)
    return objective.apply(*objective.init(jax.random.key(0), context), context)[0]


def adversarial(radius: float) -> Any:
    """g = Jᵀ (diag p − p pᵀ) J d in float64, a row at a time: the power iteration without a difference quotient."""
    found, kernel = [], np.asarray(KERNEL, np.float64)
    for x, d in zip(
        np.asarray(X, np.float64), np.asarray(unit_noise(jax.random.key(1), "normal", X.shape)), strict=True
    ):
        p = softmax(x.reshape(6) @ kernel)
        g = kernel @ (np.diag(p) - np.outer(p, p)) @ kernel.T @ (d / np.linalg.norm(d)).reshape(6)
        found.append((radius * g / np.linalg.norm(g)).reshape(x.shape))
    return np.stack(found)


@pytest.mark.parametrize("radius", [0.5, 2.0])
def test_the_loss_is_the_divergence_to_the_adversarial_rows(radius: float) -> None:
    r = adversarial(radius)
    pairs = zip(model(KERNEL, {"x": X}).logits, model(KERNEL, {"x": X + r}).logits, strict=True)
    expected = np.mean([kl(*pair) for pair in pairs])
    np.testing.assert_allclose(loss_of(KERNEL, {"x": X}, radius=radius, xi=1e-3), expected, rtol=2e-3)
    np.testing.assert_allclose(loss_of(KERNEL, {"x": X}, radius=radius), expected, rtol=2e-2)
    random = X + radius * np.asarray(unit_noise(jax.random.key(2), "normal", X.shape)) / 6**0.5
    assert expected > np.mean(
        [kl(*pair) for pair in zip(model(KERNEL, {"x": X}).logits, model(KERNEL, {"x": random}).logits, strict=True)]
    )


def test_the_gradient_is_of_the_changed_pass_alone() -> None:
    r = jnp.asarray(adversarial(1.0), jnp.float32)
    clean = model(KERNEL, {"x": X}).logits
    expected = jax.grad(lambda w: kl_divergence(clean, model(w, {"x": X + r}).logits))(KERNEL)
    np.testing.assert_allclose(jax.grad(loss_of)(KERNEL, {"x": X}, xi=1e-3), expected, rtol=5e-2, atol=5e-3)


def test_rows_that_do_not_count_and_a_model_that_is_sure_of_everything() -> None:
    padded = {"x": jnp.concatenate([X, X[:2] + 3]), "mask": jnp.arange(6) < 4}
    np.testing.assert_allclose(loss_of(KERNEL, padded), loss_of(KERNEL, {"x": X}), rtol=1e-4)
    for scale in (0.0, 1e4):
        loss, slope = jax.value_and_grad(loss_of)(KERNEL * scale, {"x": X})
        assert np.isfinite(loss)
        assert np.isfinite(slope).all()


PARAMS = {
    "table": jnp.asarray(RNG.normal(size=(7, 4)), jnp.float32),
    "kernel": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32),
}
TEXT = {"target": {"input_ids": jnp.array([[1, 2, 3], [4, 5, 6]])}}


def text(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    x = params["table"][batch["input_ids"]] + batch.get("embedding_noise", 0.0)
    keep = jax.random.bernoulli(key, 0.5, x.shape) if train else 1.0
    return Outputs(logits=jnp.tanh(x * keep).mean(1) @ params["kernel"], hidden_states=(x,))


def test_word_embeddings_move_and_both_passes_drop_the_same() -> None:
    def first(radius: float) -> float:
        step = ft.make_step(text, ft.full(), ft.vat(radius=radius), optax.sgd(0.1))
        frozen, state = step.init(jax.random.key(0), PARAMS, TEXT)
        return float(jax.jit(step.update)(frozen, state, TEXT)[1]["loss"])

    assert first(0.0) == pytest.approx(0.0, abs=1e-7)
    assert first(1.0) > 1e-4


def normalised(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    mean = batch["x"].mean(0) if train else params["norm"]["mean"]
    stats = {"norm": {"mean": 0.5 * params["norm"]["mean"] + 0.5 * mean}} if train else None
    return Outputs(logits=jnp.tanh(batch["x"] - mean) @ params["kernel"], stats=stats)


def test_running_statistics_are_no_part_of_the_inner_gradient() -> None:
    params = {"kernel": KERNEL[:3], "norm": {"mean": jnp.zeros(3)}}
    batch = {"target": {"x": X[:, 0]}}
    step = ft.make_step(normalised, ft.full(), ft.vat(input="x"), optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), params, batch)
    state, metrics = jax.jit(step.update)(frozen, state, batch)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((state.delta, state.stats, metrics["loss"])))
    assert jnp.abs(state.stats["norm"]["mean"]).max() > 0


def deaf(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    return Outputs(
        logits=params["table"][batch["input_ids"]].mean(1) @ params["kernel"], hidden_states=(jnp.ones((2, 3, 4)),)
    )


@pytest.mark.parametrize(
    ("net", "options", "reason"),
    [
        (deaf, {}, "do not depend on 'embedding_noise', so that vat would do nothing"),
        (
            text,
            {"input": "pixels"},
            r"vat adds noise to 'pixels', an array of floats, but the view has \['input_ids'\]",
        ),
        (lambda p, b, train, key: text(p, b)._replace(hidden_states=None), {}, r"vat takes the shape .* vat\(input="),
    ],
)
def test_inputs_that_cannot_move_are_refused(net: Any, options: Any, reason: str) -> None:
    step = ft.make_step(net, ft.full(), ft.vat(**options), optax.sgd(0.1))
    with pytest.raises(ft.InputError, match=reason):
        step.init(jax.random.key(0), PARAMS, TEXT)
