"""Adversarial terms: their values against numpy, what each side learns, and what a step of them costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft import objectives as o

KEY = jax.random.key(0)
S, T = jax.random.normal(KEY, (6, 4)), jax.random.normal(jax.random.key(1), (5, 4)) + 1
MASK_S, MASK_T = jnp.arange(6) < 4, jnp.arange(5) < 3
LABELS = jnp.arange(6) % 3
PARAMS = {
    "body": {"kernel": jax.random.normal(jax.random.key(2), (4, 7)) / 2},
    "head": {"kernel": jax.random.normal(jax.random.key(3), (7, 3)) / 2},
}
BATCH = {"source": {"x": S, "labels": LABELS}, "target": {"x": T}}


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    features = jnp.tanh(batch["x"] @ params["body"]["kernel"])
    return ft.Outputs(logits=features @ params["head"]["kernel"], features=features)


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def stepped(
    objective: ft.Objective, *, rate: float = 0.1, steps: int = 1, batch: Any = BATCH, adapt: Any = None
) -> Any:
    step = ft.make_step(model, adapt or ft.full(), objective, optax.sgd(rate))
    frozen, state = step.init(KEY, PARAMS, batch)
    before, update, metrics = state, jax.jit(step.update), {}
    for _ in range(steps):
        state, metrics = update(frozen, state, batch)
    return before, state, metrics


TERMS: dict[str, Callable[[], ft.Objective]] = {
    "dann": ft.dann,
    "cdan": ft.cdan,
    "cdan+e": lambda: ft.cdan(entropy=True),
    "mdd": ft.mdd,
    "wdgrl": ft.wdgrl,
    "adda": ft.adda,
    "mcd": ft.mcd,
}
term = pytest.mark.parametrize("name", TERMS)


def test_reversal_is_the_identity_forward_and_minus_the_scale_backward() -> None:
    tree = {"a": S, "b": T}

    def loss(tree: Any, scale: Any) -> Any:
        seen = o.reverse_gradient(tree, scale)
        return jnp.sum(seen["a"] ** 3) + jnp.sum(jnp.sin(seen["b"]))

    close(loss(tree, 0.3), loss(tree, 0.0))
    plain = jax.grad(lambda tree: jnp.sum(tree["a"] ** 3) + jnp.sum(jnp.sin(tree["b"])))(tree)
    reversed_ = jax.jit(jax.grad(loss))(tree, 0.3)
    jax.tree.map(lambda a, b: close(a, -0.3 * b), reversed_, plain)
    many = jax.vmap(jax.grad(loss), in_axes=(None, 0))(tree, jnp.array([0.0, 2.0]))
    close(many["a"][1], -2 * plain["a"])
    close(many["a"][0], 0)


def test_schedules() -> None:
    lam, rate = ft.reversal_schedule(200), ft.inverse_decay(0.01, 200)
    for step in (0, 20, 100, 200, 500):
        p = min(step / 200, 1)
        close(lam(step), 2 / (1 + np.exp(-10 * p)) - 1)
        close(rate(step), 0.01 / (1 + 10 * p) ** 0.75)
    for make in (ft.reversal_schedule, lambda steps: ft.inverse_decay(0.1, steps)):
        with pytest.raises(ft.InputError, match="from 1 up, but got 0"):
            make(0)


def test_domain_cross_entropy() -> None:
    z_s, z_t, w = S[:, 0], T[:, 0], jnp.array([1.0, 2.0, 0.0, 0.5, 1.0, 1.0])
    close(
        o.domain_cross_entropy(z_s, z_t), 0.5 * (softplus(-np.asarray(z_s)).mean() + softplus(np.asarray(z_t)).mean())
    )
    kept_s, kept_t, kept_w = np.asarray(z_s[:4]), np.asarray(z_t[:3]), np.asarray(w[:4])
    expected = 0.5 * ((kept_w * softplus(-kept_s)).sum() / kept_w.sum() + softplus(kept_t).mean())
    found = o.domain_cross_entropy(z_s, z_t, source_mask=MASK_S, target_mask=MASK_T, source_weights=w)
    close(found, expected)
    check_grads(o.domain_cross_entropy, (z_s, z_t), order=1, modes=["rev"])
    nothing = o.domain_cross_entropy(z_s, z_t, source_mask=jnp.zeros(6, bool), target_mask=jnp.zeros(5, bool))
    assert nothing == 0


def test_a_discriminator_of_one_logit_learns() -> None:
    """A softmax over one logit would be one everywhere, with no gradient."""
    gradient = jax.grad(lambda z: o.domain_cross_entropy(z, T[:, 0]))(S[:, 0])
    assert np.all(np.abs(gradient) > 1e-3)


def test_features_receive_minus_lambda_times_the_discriminators_gradient() -> None:
    """Beside each other: the same discriminator, the plain gradient, and that through the reversal."""

    def gradients(scale: Any) -> tuple[Any, Any]:
        _, state, _ = stepped(ft.dann(scale=scale), rate=1.0)
        return state.delta, state.weights

    before, _, _ = stepped(ft.dann(), rate=0.0)

    def plain(params: Any) -> Any:
        f_s, f_t = (model(params, BATCH[view]).features for view in ("source", "target"))
        z = (o.apply_mlp(before.weights, f)[:, 0] for f in (f_s, f_t))
        return o.domain_cross_entropy(*z)

    gradient = jax.grad(plain)(PARAMS)["body"]["kernel"]
    weights = []
    for scale in (0.0, 0.25, 3.0):
        delta, learned = gradients(scale)
        np.testing.assert_allclose(delta["body"]["kernel"] - PARAMS["body"]["kernel"], scale * gradient, atol=1e-6)
        weights.append(learned)
    jax.tree.map(lambda a, b, c: (close(a, b), close(a, c)), *weights)  # λ is not in the discriminator's gradient


def test_the_weight_of_the_term_is_another_schedule() -> None:
    one, two = (stepped(ft.combine(d=(ft.dann(scale=0.5), weight)), rate=1.0) for weight in (1.0, 2.0))
    grown = [jax.tree.map(lambda a, b: a - b, after.weights, before.weights) for before, after, _ in (one, two)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b, atol=1e-5), *grown)


def test_multilinear_and_random_maps() -> None:
    g = softmax(np.asarray(S[:, :3]))
    close(
        o.multilinear_map(S, jnp.asarray(g)),
        np.stack([np.outer(f, p).ravel() for f, p in zip(np.asarray(S), g, strict=False)]),
    )
    maps = {"features": jax.random.normal(KEY, (4, 20_000)), "probabilities": jax.random.normal(KEY, (3, 20_000))}
    maps["probabilities"] = jax.random.normal(jax.random.key(9), (3, 20_000))
    t = o.randomized_map(S, jnp.asarray(g), maps)
    exact = o.multilinear_map(S, jnp.asarray(g))
    np.testing.assert_allclose(t @ t.T, exact @ exact.T, atol=0.15)


def test_certainty_weights() -> None:
    p = softmax(np.asarray(S[:4]))
    w = 1 + np.exp((p * np.log(p)).sum(1))
    close(o.certainty_weights(S, mask=MASK_S)[:4], w / w.mean())
    assert np.all(o.certainty_weights(S, mask=MASK_S)[4:] == 0)
    assert np.all(jax.grad(lambda z: jnp.sum(o.certainty_weights(z) ** 2))(S) == 0)


def test_large_conditional_maps_are_random_and_stay_as_drawn() -> None:
    wide = {"body": {"kernel": jnp.ones((4, 2000))}, "head": {"kernel": jnp.ones((2000, 3))}}
    step = ft.make_step(model, ft.full(), ft.cdan(), optax.sgd(0.1))
    frozen, state = step.init(KEY, wide, BATCH)
    assert state.weights[0]["kernel"].shape == (1024, 100)
    assert frozen.objective["features"].shape == (2000, 1024)
    state, metrics = jax.jit(step.update)(frozen, state, BATCH)
    assert np.isfinite(metrics["loss"])


def test_no_gradient_goes_through_the_predictions_of_cdan() -> None:
    before, after, _ = stepped(ft.cdan(entropy=True))
    np.testing.assert_array_equal(after.delta["head"]["kernel"], before.delta["head"]["kernel"])
    assert np.any(after.delta["body"]["kernel"] != before.delta["body"]["kernel"])


def test_margin_disparity() -> None:
    y_s, y_t = jnp.array([0, 1, 2, 0, 1, 2]), jnp.array([3, 1, 0, 2, 2])
    p_s, p_t = softmax(np.asarray(S)), softmax(np.asarray(T))
    agree, differ = -np.log(p_s[np.arange(6), y_s]), np.log(1 - p_t[np.arange(5), y_t])
    close(o.margin_disparity(S, T, y_s, y_t), 4 * agree.mean() - differ.mean())
    masked = o.margin_disparity(S, T, y_s, y_t, gamma=2.0, source_mask=MASK_S, target_mask=MASK_T)
    close(masked, 2 * agree[:4].mean() - differ[:3].mean())
    check_grads(lambda s, t: o.margin_disparity(s, t, y_s, y_t), (S, T), order=1, modes=["rev"], rtol=1e-2)
    sure = jnp.array([[200.0, 0.0]])
    assert np.isfinite(o.margin_disparity(sure, sure, jnp.array([1]), jnp.array([0])))


def test_the_second_head_of_mdd_agrees_on_the_source_and_parts_on_the_target() -> None:
    """With the features held, minimising makes it so."""
    step = ft.make_step(model, ft.freeze("**/kernel"), ft.mdd(), optax.adam(1e-2))
    params = PARAMS | {"unused": jnp.zeros(1)}
    frozen, state = step.init(KEY, params, BATCH)
    for _ in range(200):
        state, _ = jax.jit(step.update)(frozen, state, BATCH)
    outputs = {view: model(PARAMS, BATCH[view]) for view in BATCH}
    own = {view: np.asarray(outputs[view].logits.argmax(1)) for view in BATCH}
    second = {view: softmax(np.asarray(o.apply_mlp(state.weights, outputs[view].features))) for view in BATCH}
    assert second["source"][np.arange(6), own["source"]].mean() > 0.8
    assert second["target"][np.arange(5), own["target"]].mean() < 0.5


def test_critic_gap_and_gradient_penalty() -> None:
    close(o.critic_gap(S[:, 0], T[:, 0]), S[:, 0].mean() - T[:, 0].mean())
    close(o.critic_gap(S[:, 0], T[:, 0], source_mask=MASK_S), S[:4, 0].mean() - T[:, 0].mean())
    assert o.critic_gap(S[:, 0], T[:, 0], source_mask=jnp.zeros(6, bool)) == 0
    a = np.array([1.0, -2.0, 0.5, 1.0])
    slope = np.cos(np.asarray(S) @ a)[:, None] * a
    expected = (np.linalg.norm(slope, axis=1) - 1) ** 2
    close(o.gradient_penalty(lambda h: jnp.sin(h @ a), S), expected.mean())
    close(o.gradient_penalty(lambda h: jnp.sin(h @ a), S, mask=MASK_S), expected[:4].mean())
    square = S.reshape(6, 2, 2)
    close(o.gradient_penalty(lambda h: jnp.sin(h.reshape(len(h), 4) @ a), square), expected.mean())
    flat = jax.grad(lambda w: o.gradient_penalty(lambda h: h @ (w * a), S))(0.0)
    assert np.isfinite(flat)


def test_the_critic_learns_five_times_first_and_alone() -> None:
    counted = optax.GradientTransformation(
        lambda params: jnp.zeros((), jnp.int32), lambda updates, state, params=None: (updates, state + 1)
    )
    before, after, metrics = stepped(ft.wdgrl(critic=optax.chain(counted, optax.sgd(-0.0))), rate=0.1)
    assert int(after.opt_state.turns[0][0]) == 5
    assert np.any(after.delta["body"]["kernel"] != before.delta["body"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, after.weights, before.weights)
    assert {"critic", "critic/distance", "critic/penalty"} <= set(metrics)
    _, after, _ = stepped(ft.wdgrl(critic=optax.adam(1e-2)), rate=0.0, steps=30)
    _, later, metrics = stepped(ft.wdgrl(critic=optax.adam(1e-2)), rate=0.0, steps=60)
    assert metrics["critic/distance"] > 0.1
    jax.tree.map(np.testing.assert_array_equal, later.delta, before.delta)


def test_adda_keeps_the_encoder_of_the_source() -> None:
    adapt = ft.freeze("head/**")
    step = ft.make_step(model, adapt, ft.adda(), optax.sgd(0.5))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    first = state
    update = jax.jit(step.update, donate_argnums=1)
    for _ in range(3):
        state, metrics = update(frozen, state, BATCH)
    np.testing.assert_array_equal(frozen.objective["body"]["kernel"], PARAMS["body"]["kernel"])
    assert np.any(np.asarray(state.delta["body"]["kernel"]) != PARAMS["body"]["kernel"])
    del first
    before, _, metrics = stepped(ft.adda(), rate=0.0, adapt=adapt)
    z_s, z_t = (
        np.asarray(o.apply_mlp(before.weights, model(PARAMS, BATCH[view]).features)[:, 0])
        for view in ("source", "target")
    )
    close(metrics["discriminator"], 0.5 * (softplus(-z_s).mean() + softplus(z_t).mean()))
    close(metrics["loss"], softplus(-z_t).mean())  # the label is turned around


def test_classifier_discrepancy() -> None:
    p, q = softmax(np.asarray(T)), softmax(np.asarray(S[:5]))
    close(o.classifier_discrepancy(T, S[:5]), np.abs(p - q).mean())
    close(o.classifier_discrepancy(T, S[:5], mask=MASK_T), np.abs(p - q)[:3].mean())
    check_grads(lambda a, b: o.classifier_discrepancy(a, b), (T, S[:5]), order=1, modes=["rev"], rtol=1e-2)
    assert np.isfinite(jax.grad(lambda a: o.classifier_discrepancy(a, T))(T)).all()


def test_the_parts_of_mcd() -> None:
    """B moves heads alone and parts them on the target; C moves the rest alone and brings them together."""
    objective = ft.combine(task=ft.cross_entropy("source"), heads=ft.mcd())
    _, _state, metrics = stepped(objective, rate=0.05, steps=5)
    assert [turn.name for turn in objective.turns] == ["heads/heads", "heads/features"]
    assert [turn.repeats for turn in objective.turns] == [1, 4]
    for place, moving in ((0, {"head", "weights"}), (1, {"body"})):
        alone = objective._replace(turns=(objective.turns[place],), apply=_still(objective.apply))
        before, after, _ = stepped(alone, rate=0.1)
        moved = {name for name in before.delta if np.any(after.delta[name]["kernel"] != before.delta[name]["kernel"])}
        if any(
            np.any(a != b)
            for a, b in zip(jax.tree.leaves(after.weights), jax.tree.leaves(before.weights), strict=False)
        ):
            moved.add("weights")
        assert moved == moving
    assert float(metrics["heads/features"]) < float(metrics["heads/heads/discrepancy"]) + 1e-3


def _still(apply: Any) -> Any:
    def stilled(*arguments: Any) -> Any:
        loss, rest = apply(*arguments)
        return 0.0 * loss, rest

    return stilled


def test_mcd_needs_features_that_learn() -> None:
    step = ft.make_step(model, ft.tune("head/**"), ft.mcd(), optax.sgd(0.1))
    with pytest.raises(ft.InputError, match="nothing beside the head learns"):
        step.init(KEY, PARAMS, BATCH)
    step = ft.make_step(model, ft.full(), ft.mcd(head="heed/**"), optax.sgd(0.1))
    with pytest.raises(ft.InputError, match="heed"):
        step.init(KEY, PARAMS, BATCH)


@term
def test_labels_of_the_target_change_no_bit_of_what_is_trained(name: str) -> None:
    told = {**BATCH, "target": {"x": T, "labels": jnp.zeros(5, int)}}
    objective = ft.combine(task=ft.cross_entropy("source"), term=TERMS[name]())
    states = [stepped(objective, steps=3, batch=batch)[1] for batch in (BATCH, told)]
    assert ft.fingerprint(states[0]) == ft.fingerprint(states[1])


@term
def test_seeds_map(name: str) -> None:
    objective = ft.combine(task=ft.cross_entropy("source"), term=TERMS[name]())
    step = ft.make_step(model, ft.full(), objective, optax.adam(0.1))

    def run(key: Any) -> Any:
        frozen, state = step.init(key, PARAMS, BATCH)
        return step.update(frozen, state, BATCH)[0].delta

    keys = jax.random.split(KEY, 2)
    mapped = jax.jit(jax.vmap(run))(keys)
    jax.tree.map(lambda many, one: np.testing.assert_allclose(many[1], one, atol=1e-4), mapped, jax.jit(run)(keys[1]))


@term
def test_domains_that_do_not_fit_are_refused(name: str) -> None:
    def ragged(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
        outputs = model(params, batch)
        return outputs if len(batch["x"]) == 6 else outputs._replace(features=outputs.features[:, :5])

    for apply, batch, message in (
        (ragged, BATCH, r"features of one size.*7.*5"),
        (model, {**BATCH, "target": {"x": T[:0]}}, r"rows \[batch, dim\] of the target, at least one"),
        (model, {"source": BATCH["source"]}, "the view 'target'"),
    ):
        step = ft.make_step(apply, ft.full(), TERMS[name](), optax.sgd(0.1))
        with pytest.raises(ft.InputError, match=message):
            step.init(KEY, PARAMS, batch)


@pytest.mark.parametrize("build", [ft.dann, ft.cdan, ft.mdd])
def test_a_scale_that_is_none_is_refused(build: Any) -> None:
    for scale in (-1.0, True, float("nan"), "1", jnp.ones(2)):
        with pytest.raises(ft.InputError, match="number from 0 up"):
            build(scale=scale)
    _, _, metrics = stepped(build(scale=lambda step: jnp.nan * step))
    assert np.isnan(metrics["loss"])  # a run stops and says so, where the gradient alone would have been lost


def test_partial_adaptation_weighs_the_rows_of_the_source_by_class() -> None:
    before, _, metrics = stepped(ft.dann(class_weights=jnp.array([1.0, 0.0, 0.5])), rate=0.0)
    z_s, z_t = (
        np.asarray(o.apply_mlp(before.weights, model(PARAMS, BATCH[view]).features)[:, 0])
        for view in ("source", "target")
    )
    w = np.array([1.0, 0.0, 0.5])[np.asarray(LABELS)]
    close(metrics["loss"], 0.5 * ((w * softplus(-z_s)).sum() / w.sum() + softplus(z_t).mean()))


def test_a_dann_step_costs_little_more_than_its_passes() -> None:
    """Beside a step on the same two batches that backs both views up and compares nothing."""
    net = ft.small_convnet(16, num_labels=10)
    rows = {"pixels": jnp.ones((64, 16, 16, 1))}
    batch = {"source": rows | {"labels": jnp.zeros(64, int)}, "target": rows}

    def flops(term: ft.Objective) -> float:
        objective = ft.combine(task=ft.cross_entropy("source"), term=term)
        step = ft.make_step(net.apply, ft.full(), objective, optax.adam(1e-3))
        frozen, state = step.init(KEY, net.params, batch)
        return jax.jit(step.update).lower(frozen, state, batch).compile().cost_analysis()["flops"]

    def passes(frozen: Any, weights: Any, memory: Any, context: Any) -> Any:
        return jnp.mean(context.forward("target").features), (memory, {})

    plain = flops(ft.Objective(lambda key, context: ((), (), ()), passes))
    assert flops(ft.dann()) <= 1.15 * plain
