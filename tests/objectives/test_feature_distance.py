"""DELTA: values by hand, attention over channels, and what does not count."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import squared_feature_distance
from jaxft.types import Context, Outputs

RNG = np.random.default_rng(0)
F, G = (jnp.asarray(RNG.normal(size=(4, 5, 3)), jnp.float32) for _ in range(2))
ATTENTION = jnp.array([0.5, 0.2, 0.3])
LENGTHS = (5, 2, 3, 0)
TEXT = jnp.arange(5) < jnp.array(LENGTHS)[:, None]


def by_hand(f: Any, g: Any, attention: Any = (1 / 3,) * 3, lengths: Any = (5, 5, 5, 5)) -> float:
    rows = []
    for row, length in enumerate(lengths):
        squares = (np.asarray(f, np.float64)[row, :length] - np.asarray(g, np.float64)[row, :length]) ** 2
        if length:
            rows.append(sum(3 * w * squares[:, c].mean() for c, w in enumerate(attention)))
    return float(np.mean(rows)) / 2


def test_by_hand() -> None:
    for function in (squared_feature_distance, jax.jit(squared_feature_distance)):
        np.testing.assert_allclose(function(F, G), by_hand(F, G), rtol=1e-5)
        np.testing.assert_allclose(function(F, G, attention=ATTENTION), by_hand(F, G, (0.5, 0.2, 0.3)), rtol=1e-5)
        np.testing.assert_allclose(function(F, G, mask=TEXT), by_hand(F, G, lengths=LENGTHS), rtol=1e-5)
    rows = squared_feature_distance(F[:, 0], G[:, 0])
    np.testing.assert_allclose(rows, np.sum((F[:, 0] - G[:, 0]) ** 2) / 8, rtol=1e-5)


def test_maps_of_pixels_are_means_over_both_axes() -> None:
    maps = squared_feature_distance(F.reshape(2, 2, 5, 3), G.reshape(2, 2, 5, 3))
    np.testing.assert_allclose(maps, by_hand(F, G), rtol=1e-5)


def test_gradients_order_and_what_does_not_count() -> None:
    check_grads(lambda f: squared_feature_distance(f, G, mask=TEXT), (F,), order=1, modes=["rev"], rtol=1e-2)
    order = jnp.array([2, 0, 3, 1])
    mixed = squared_feature_distance(F[order], G[order], mask=TEXT[order])
    np.testing.assert_allclose(mixed, by_hand(F, G, lengths=LENGTHS), rtol=1e-5)
    broken = jnp.where(TEXT[..., None], F, jnp.nan)
    value, slope = jax.value_and_grad(squared_feature_distance)(broken, G, mask=TEXT)
    np.testing.assert_allclose(value, by_hand(F, G, lengths=LENGTHS), rtol=1e-5)
    np.testing.assert_array_equal(slope[~TEXT], 0)
    assert squared_feature_distance(F, G, mask=jnp.zeros(4, bool)) == 0
    assert squared_feature_distance(F.astype(jnp.bfloat16), G.astype(jnp.bfloat16)).dtype == jnp.float32


def test_attention_of_the_authors() -> None:
    d = np.array([0.1, 0.4, -0.2, 0.3])
    z = (d - d.mean()) / d.std() / 5
    np.testing.assert_allclose(ft.channel_attention(jnp.asarray(d)), np.exp(z) / np.exp(z).sum(), rtol=1e-5)
    slope = jax.grad(lambda d: ft.channel_attention(d)[0])(jnp.ones(3))
    assert jnp.isfinite(slope).all()


def net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    first = jnp.tanh(batch["x"] @ params["down"])
    scale = jnp.where(train, 2.0, 1.0)
    second = first @ params["up"] * scale
    return Outputs(logits=second.mean(1), features=second.mean(1), hidden_states=(batch["x"], first, second))


PARAMS = {"down": jnp.eye(3, 2), "up": jnp.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])}
BASE = ft.Model(net, PARAMS, None)
BATCH = {"source": {"x": F, "attention_mask": TEXT.astype(jnp.int32), "mask": jnp.array([True, True, False, True])}}


def context(params: Any, batch: Any = BATCH, apply: Any = net) -> Context:
    def forward(view: str | None = None) -> Outputs:
        return apply(params, batch["source"])

    return Context(forward, batch, params, jnp.int32(0), jax.random.key(0))


def loss(objective: ft.Objective, inner: Context) -> Any:
    return objective.apply(*objective.init(jax.random.key(0), inner), inner)[0]


def test_the_objective_sums_over_layers_and_reads_both_masks() -> None:
    now = jax.tree.map(lambda leaf: leaf + 0.5, PARAMS)
    ours, theirs = net(now, BATCH["source"]).hidden_states, net(PARAMS, BATCH["source"]).hidden_states
    kept = (5, 2, 0, 0)
    two = (0.25, 0.75)
    first = np.pad(ours[1], ((0, 0), (0, 0), (0, 1))), np.pad(theirs[1], ((0, 0), (0, 0), (0, 1)))
    expected = by_hand(*first, attention=(2 / 3 * two[0], 2 / 3 * two[1], 0), lengths=kept)
    expected += by_hand(ours[2], theirs[2], (0.5, 0.2, 0.3), kept)
    objective = ft.feature_distance(BASE, "source", layers=(1, -1), attention=(jnp.array(two), ATTENTION))
    np.testing.assert_allclose(loss(objective, context(now)), 1e-2 * expected, rtol=1e-5)
    assert loss(objective, context(PARAMS)) == 0


def test_features_are_compared_when_no_layer_is_named() -> None:
    now = jax.tree.map(lambda leaf: leaf + 0.5, PARAMS)
    gap = (net(now, BATCH["source"]).features - net(PARAMS, BATCH["source"]).features)[jnp.array([0, 1, 3])]
    found = loss(ft.feature_distance(BASE, "source", weight=2.0), context(now))
    np.testing.assert_allclose(found, np.sum(gap**2) / 3, rtol=1e-5)


def test_the_base_is_an_argument_of_the_step_and_stays() -> None:
    objective = ft.combine(task=ft.cross_entropy("source"), near=ft.feature_distance(BASE, "source"))
    batch = {"source": BATCH["source"] | {"labels": jnp.array([0, 1, 2, 0])}}
    step = ft.make_step(net, ft.full(), objective, optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), PARAMS, batch)
    assert ft.fingerprint(frozen.objective["near"]["params"]) == ft.fingerprint(PARAMS)
    update = jax.jit(step.update, donate_argnums=1)
    for _ in range(2):
        state, metrics = update(frozen, state, batch)
    assert metrics["near"] > 0
    assert ft.fingerprint(frozen.objective["near"]["params"]) == ft.fingerprint(BASE.params)
    doubled = frozen._replace(objective=jax.tree.map(lambda leaf: 2 * leaf, frozen.objective))
    state = jax.tree.map(jnp.copy, state)
    assert step.update(doubled, state, batch)[1]["near"] != step.update(frozen, state, batch)[1]["near"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": ()}, "at least one layer"),
        ({"layers": (1, 2), "attention": (ATTENTION,)}, "attention for each: got 2 and 1"),
        ({"layers": (3,)}, "gives 3 hidden states, so that there is no layer 3"),
        ({"layers": (1,), "attention": (ATTENTION,)}, r"attention over 2 channels, but it has shape \[3\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        loss(ft.feature_distance(BASE, "source", **options), context(PARAMS))


def test_a_model_without_features_and_other_shapes_are_refused() -> None:
    def bare(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
        return Outputs(logits=batch["x"])

    with pytest.raises(ft.InputError, match="gives no features; name hidden states"):
        loss(ft.feature_distance(ft.Model(bare, {}, None), "source"), context(PARAMS, apply=bare))
    with pytest.raises(ft.InputError, match=r"of one shape, but they are \[4, 5, 3\] and \[4, 3\]"):
        squared_feature_distance(F, F[:, 0])
