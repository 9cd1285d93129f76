"""R3F: divergences by hand, noise that reaches the model, and the same dropout in both passes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import symmetric_kl
from jaxft.types import Context, Outputs

RNG = np.random.default_rng(0)
P, Q = (jnp.asarray(RNG.normal(size=(4, 3)) * 2, jnp.float32) for _ in range(2))


def by_hand(z: Any, y: Any, rows: Any = (0, 1, 2, 3)) -> float:
    p, q = (np.exp(np.asarray(part, np.float64)) for part in (z, y))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    return float(np.mean([np.sum(p[i] * np.log(p[i] / q[i])) + np.sum(q[i] * np.log(q[i] / p[i])) for i in rows]))


def test_the_divergence_by_hand() -> None:
    for function in (symmetric_kl, jax.jit(symmetric_kl)):
        np.testing.assert_allclose(function(P, Q), by_hand(P, Q), rtol=1e-5)
        np.testing.assert_allclose(function(Q, P), by_hand(P, Q), rtol=1e-5)
    mask = jnp.array([True, False, True, True])
    np.testing.assert_allclose(symmetric_kl(P, Q, mask=mask), by_hand(P, Q, (0, 2, 3)), rtol=1e-5)
    tokens = symmetric_kl(P.reshape(2, 2, 3), Q.reshape(2, 2, 3), mask=mask.reshape(2, 2))
    np.testing.assert_allclose(tokens, by_hand(P, Q, (0, 2, 3)), rtol=1e-5)
    order = jnp.array([3, 0, 2, 1])
    np.testing.assert_allclose(symmetric_kl(P[order], Q[order]), by_hand(P, Q), rtol=1e-5)


def test_a_divergence_of_hardly_anything_is_not_lost() -> None:
    """A second-order quantity: of a shift δ it is Σ p (δ − mean δ)², here 1e-10."""
    delta = 1e-4 * np.asarray(Q)
    p = np.asarray(jax.nn.softmax(P))
    expected = np.mean(np.sum(p * (delta - np.sum(p * delta, 1, keepdims=True)) ** 2, axis=1))
    np.testing.assert_allclose(symmetric_kl(P, P + delta), expected, rtol=2e-2)


def test_gradients_and_degenerate_predictions() -> None:
    check_grads(symmetric_kl, (P, Q), order=1, modes=["rev"], rtol=1e-2)
    mask = jnp.array([True, False, True, True])
    value, slope = jax.value_and_grad(lambda z: symmetric_kl(z, Q, mask=mask))(P.at[1].set(jnp.nan))
    np.testing.assert_allclose(value, by_hand(P, Q, (0, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(slope[1], 0)
    out = jnp.array([0.0, -jnp.inf, 0.0])
    value, slope = jax.value_and_grad(symmetric_kl)(P + out, Q + out)
    np.testing.assert_allclose(value, by_hand(P[:, ::2], Q[:, ::2]), rtol=1e-5)
    assert jnp.isfinite(slope).all()
    for z, y in ((P, P), (P * 1e5, -P * 1e5), (jnp.zeros((4, 3)), jnp.zeros((4, 3)))):
        value, slope = jax.value_and_grad(symmetric_kl)(z, y)
        assert jnp.isfinite(value)
        assert jnp.isfinite(slope).all()
    assert symmetric_kl(P, Q, mask=jnp.zeros(4, bool)) == 0


@pytest.mark.parametrize(("z", "y"), [(P, P[:2]), (P[:, :1], P[:, :1]), (P[0], P[0])])
def test_what_has_no_divergence_is_refused(z: Any, y: Any) -> None:
    with pytest.raises(ft.InputError, match=r"logits \[..., classes\] of one shape over at least two classes"):
        symmetric_kl(z, y)


PARAMS = {"table": jnp.asarray(RNG.normal(size=(9, 4)), jnp.float32), "kernel": P}
BATCH = {"input_ids": jnp.array([[1, 2, 3], [4, 5, 6]]), "labels": jnp.array([0, 1])}


def text(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    """Dropout of most units in training, so that another draw would move the prediction far more than the noise."""
    x = params["table"][batch["input_ids"]] + batch.get("embedding_noise", 0.0)
    if train:
        x = jnp.where(jax.random.bernoulli(key, 0.3, x.shape), x, 0.0)
    return Outputs(logits=jnp.tanh(x).mean(1) @ params["kernel"], hidden_states=(x,))


def first_metrics(objective: ft.Objective, model: Any = text, batch: Any = BATCH) -> Any:
    step = ft.make_step(model, ft.full(), objective, optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), PARAMS, batch)
    return jax.jit(step.update)(frozen, state, batch)[1]


def both(**options: Any) -> ft.Objective:
    return ft.combine(task=ft.cross_entropy(), smooth=ft.r3f(**options))


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_both_passes_drop_the_same_units(noise: str) -> None:
    small, large = (float(first_metrics(both(noise=noise, radius=radius))["smooth"]) for radius in (1e-2, 2e-2))
    assert 0 < small < 1e-3
    assert large == pytest.approx(4 * small, rel=0.1)


def test_without_noise_nothing_differs_and_the_weight_is_a_factor() -> None:
    assert first_metrics(both(radius=0.0))["smooth"] == 0
    one, three = (float(first_metrics(both(radius=0.1, weight=weight))["smooth"]) for weight in (1.0, 3.0))
    assert three == pytest.approx(3 * one, rel=1e-5)


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_the_noise_is_of_its_kind(noise: str) -> None:
    seen: list[Any] = []

    def watching(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
        if train and "embedding_noise" in batch:
            jax.debug.callback(lambda z: seen.append(np.asarray(z)), batch["embedding_noise"])
        return text(params, batch, train=train, key=key)

    wide = {"input_ids": jnp.ones((64, 30), int), "labels": jnp.zeros(64, int)}
    first_metrics(both(noise=noise, radius=0.5), watching, wide)
    jax.effects_barrier()
    z = seen[-1]
    assert z.shape == (64, 30, 4)
    assert z.std() == pytest.approx(0.5 if noise == "normal" else 0.5 / 3**0.5, rel=0.05)
    assert abs(z.mean()) < 0.02
    assert (np.abs(z).max() <= 0.5) == (noise == "uniform")
    assert np.unique(z).size > 0.9 * z.size


def test_tokens_that_are_padding_do_not_count() -> None:
    def tags(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
        x = params["table"][batch["input_ids"]] + batch.get("embedding_noise", 0.0)
        return Outputs(logits=x @ params["kernel"], hidden_states=(x,))

    def loss(batch: Any, params: Any = PARAMS) -> Any:
        def forward(view: Any = None, *, train: bool = True, **changes: Any) -> Outputs:
            return tags(params, {**batch, **changes})

        context = Context(forward, batch, params, jnp.int32(0), jax.random.key(1))
        objective = ft.r3f(radius=0.5)
        return objective.apply(*objective.init(jax.random.key(0), context), context)[0]

    batch = BATCH | {"attention_mask": jnp.array([[1, 1, 0], [1, 0, 0]]), "mask": jnp.array([True, True])}
    other = PARAMS | {"table": PARAMS["table"].at[jnp.array([3, 5, 6])].add(5.0)}
    assert loss(batch) > 0
    np.testing.assert_allclose(loss(batch, other), loss(batch), rtol=1e-5)
    only = loss(batch | {"mask": jnp.array([True, False])}, PARAMS | {"table": PARAMS["table"].at[4].add(5.0)})
    np.testing.assert_allclose(only, loss(batch | {"mask": jnp.array([True, False])}), rtol=1e-5)


def image(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    return Outputs(logits=batch["pixels"].mean((1, 2)) @ params["kernel"])


def test_another_input_by_its_name() -> None:
    batch = {"pixels": jnp.ones((2, 3, 3, 4)), "labels": jnp.array([0, 1])}
    assert first_metrics(both(input="pixels", radius=0.1), image, batch)["smooth"] > 0


@jax.jit
def deaf(params: Any, batch: Any, key: Any = None) -> Outputs:
    return Outputs(
        logits=params["table"][batch["input_ids"]].mean(1) @ params["kernel"], hidden_states=(jnp.ones((2, 3, 4)),)
    )


@pytest.mark.parametrize(
    ("options", "model", "reason"),
    [
        ({}, lambda p, b, train=False, key=None: deaf(p, b), "do not depend on 'embedding_noise', so that r3f would"),
        ({"input": "x"}, lambda p, b, train=False, key=None: deaf(p, b), "do not depend on 'x'"),
        (
            {},
            lambda p, b, train=False, key=None: deaf(p, b)._replace(hidden_states=None),
            "which the model does not give",
        ),
        (
            {"input": "pixels"},
            text,
            r"to 'pixels', an array of floats, but the view has \['input_ids', 'labels', 'x'\]",
        ),
        ({"input": "input_ids"}, text, "to 'input_ids', an array of floats"),
    ],
)
@pytest.mark.parametrize("traced", [False, True])
def test_noise_that_nothing_reads_is_refused(options: Any, model: Any, reason: str, traced: bool) -> None:
    step = ft.make_step(model, ft.full(), both(**options), optax.sgd(0.1))
    init = jax.jit(step.init) if traced else step.init
    with pytest.raises(ft.InputError, match=reason):
        init(jax.random.key(0), PARAMS, BATCH | {"x": jnp.ones(2)})


def test_an_unknown_kind_of_noise_is_refused() -> None:
    with pytest.raises(ft.InputError, match="one of uniform, normal, but got 'gauss'"):
        ft.r3f(noise="gauss")


def test_a_model_with_narrow_embeddings_is_told_by_dim() -> None:
    def narrow(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
        x = params["table"][batch["input_ids"]] + batch.get("embedding_noise", jnp.zeros((2, 3, 4)))
        return Outputs(logits=x.mean(1) @ params["kernel"], hidden_states=(jnp.concatenate([x, x], axis=2),))

    assert first_metrics(both(radius=0.1, dim=4), narrow)["smooth"] > 0


@pytest.mark.slow
def test_minilm_trains_with_it() -> None:
    model = ft.load_model("minilm", task="classify", num_labels=2)
    batch = dict(model.tokenizer(["a fine film", "dull"], padding=True, return_tensors="np"))
    batch = {name: jnp.asarray(value) for name, value in batch.items()} | {"labels": jnp.array([1, 0])}
    head = ft.chain(ft.lora("**/attention/query/kernel", rank=1), ft.tune("head/**"))

    def smooth(radius: float) -> float:
        step = ft.make_step(model.apply, head, both(radius=radius), optax.adam(1e-3))
        frozen, state = jax.jit(step.init)(jax.random.key(0), model.params, batch)
        state, metrics = jax.jit(step.update)(frozen, state, batch)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((state.delta, metrics)))
        return float(metrics["smooth"])

    assert smooth(1e-3) > 0
    assert smooth(0.0) == 0
