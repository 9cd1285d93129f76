"""Adversarial terms: who learns what in a step, what is refused, and what is told when something is wrong."""

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
from jaxft.train import NonFiniteLoss, fit

KEY = jax.random.key(0)
S, T = jax.random.normal(KEY, (6, 4)), jax.random.normal(jax.random.key(1), (5, 4)) + 1
MASK_S, MASK_T = jnp.arange(6) < 4, jnp.arange(5) < 3
PARAMS = {
    "body": {"kernel": jax.random.normal(jax.random.key(2), (4, 7)) / 2},
    "head": {"kernel": jax.random.normal(jax.random.key(3), (7, 3)) / 2},
}
BATCH: dict[str, dict[str, Any]] = {"source": {"x": S, "labels": jnp.arange(6) % 3}, "target": {"x": T}}
SPOILT_S, SPOILT_T = jnp.where(MASK_S[:, None], S, jnp.nan), jnp.where(MASK_T[:, None], T, jnp.nan)


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    features = jnp.tanh(batch["x"] @ params["body"]["kernel"])
    return ft.Outputs(logits=features @ params["head"]["kernel"], features=features)


def stepped(
    objective: ft.Objective, *, rate: float = 1.0, batch: Any = BATCH, adapt: Any = None, later: Any = None
) -> Any:
    """States before and after one step, and its metrics; the step may be on a later batch than the first."""
    step = ft.make_step(model, adapt or ft.full(), objective, optax.sgd(rate))
    frozen, state = step.init(KEY, PARAMS, batch)
    after, metrics = jax.jit(step.update)(frozen, state, batch if later is None else later)
    return state, after, metrics


def moved(before: Any, after: Any) -> set[str]:
    """The paths that a step changed, of the model and of the objective."""
    old, new = (ft.leaf_paths({"delta": state.delta, "weights": state.weights}) for state in (before, after))
    return {path for path in old if np.any(old[path] != new[path])}


def grown(before: Any, after: Any) -> Any:
    return jax.tree.map(lambda a, b: b - a, before, after)


def close(found: Any, expected: Any, atol: float = 1e-6) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol), found, expected)


TERMS: dict[str, Callable[..., ft.Objective]] = {
    "dann": ft.dann,
    "cdan": ft.cdan,
    "mdd": ft.mdd,
    "wdgrl": ft.wdgrl,
    "adda": ft.adda,
    "mcd": ft.mcd,
}
term = pytest.mark.parametrize("name", TERMS)
REVERSED = {
    "dann": ft.dann,
    "cdan": ft.cdan,
    "cdan+e": lambda **options: ft.cdan(entropy=True, **options),
    "mdd": ft.mdd,
}


def unreversed(name: str, params: Any, weights: Any) -> Any:
    """The loss of a term, written out without a reversal."""
    outputs = [model(params, BATCH[view]) for view in BATCH]
    f, z = [seen.features for seen in outputs], [jax.lax.stop_gradient(seen.logits) for seen in outputs]
    if name == "mdd":
        return o.margin_disparity(*(o.apply_mlp(weights, x) for x in f), *(logits.argmax(1) for logits in z))
    if name != "dann":
        f = [o.multilinear_map(x, jax.nn.softmax(logits)) for x, logits in zip(f, z, strict=True)]
    w_s, w_t = [o.certainty_weights(logits) for logits in z] if name == "cdan+e" else (None, None)
    told = (o.apply_mlp(weights, x)[:, 0] for x in f)
    return o.domain_cross_entropy(*told, source_weights=w_s, target_weights=w_t)


@pytest.mark.parametrize("name", REVERSED)
def test_features_climb_what_the_second_net_descends(name: str) -> None:
    """By λ times the gradient, to the last digits, while the second net sees all of it whatever λ is."""
    for scale in (0.0, 0.25, 3.0):
        before, after, metrics = stepped(REVERSED[name](scale=scale))
        loss, (of_params, of_weights) = jax.value_and_grad(unreversed, (1, 2))(name, PARAMS, before.weights)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
        close(grown(before.delta, after.delta), jax.tree.map(lambda g, by=scale: by * g, of_params))
        close(grown(before.weights, after.weights), jax.tree.map(lambda g: -g, of_weights))
        np.testing.assert_array_equal(after.delta["head"]["kernel"], PARAMS["head"]["kernel"])
    assert optax.tree.norm(of_params) > 1e-3


def test_the_reversal_leaves_whole_numbers_alone_and_keeps_the_type() -> None:
    def loss(x: Any) -> Any:
        seen = o.reverse_gradient({"x": x, "row": jnp.arange(6), "counts": MASK_S}, 2.0)
        return jnp.sum(jnp.where(seen["counts"][:, None], seen["x"], 0).astype(jnp.float32))

    gradient = jax.grad(loss)(S.astype(jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient, -2.0 * np.repeat(np.asarray(MASK_S, np.float32)[:, None], 4, axis=1))
    with pytest.raises(ft.InputError, match=r"is a number, but has the shape \[2\]"):
        o.reverse_gradient(S, jnp.ones(2))


def test_gradients_of_the_pure_functions() -> None:
    g = jax.nn.softmax(S[:, :3])
    maps = {"features": jax.random.normal(KEY, (4, 8)), "probabilities": jax.random.normal(KEY, (3, 8))}
    net = o.init_mlp(KEY, (4, 5, 1))
    for function, arguments in (
        (lambda f, g: jnp.sum(o.multilinear_map(f, g) ** 2), (S, g)),
        (lambda f, g: jnp.sum(jnp.sin(o.randomized_map(f, g, maps))), (S, g)),
        (lambda w: jnp.sum(o.apply_mlp(w, S) ** 2), (net,)),
        (lambda s, t: o.critic_gap(s[:, 0], t[:, 0], source_mask=MASK_S), (S, T)),
        (lambda a: o.gradient_penalty(lambda h: jnp.sin(h @ a), S, mask=MASK_S), (jnp.arange(4.0),)),
    ):
        check_grads(function, arguments, order=1, modes=["rev"], atol=2e-2, rtol=2e-2)


def test_a_net_of_two_hidden_layers_by_hand() -> None:
    net = o.init_mlp(KEY, (4, 100, 100, 1))
    x = np.asarray(S, np.float64)
    for place, layer in enumerate(net):
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])
        x = x if place == 2 else np.maximum(x, 0)
    np.testing.assert_allclose(o.apply_mlp(net, S), x, rtol=1e-4, atol=1e-5)
    for layer, before in zip(net, (4, 100, 100), strict=True):
        np.testing.assert_array_equal(layer["bias"], 0)
        assert float(layer["kernel"].std()) == pytest.approx(np.sqrt(2 / before), rel=0.2)


def test_rows_that_do_not_count_reach_no_gradient_even_if_they_are_nan() -> None:
    y_s, y_t = jnp.zeros(6, int), jnp.zeros(5, int)
    masks = {"source_mask": MASK_S, "target_mask": MASK_T}
    w = jnp.arange(4.0)
    found = {
        "cross-entropy": jax.value_and_grad(lambda s: o.domain_cross_entropy(s[:, 0], SPOILT_T[:, 0], **masks)),
        "margin": jax.value_and_grad(lambda s: o.margin_disparity(s, SPOILT_T, y_s, y_t, **masks)),
        "gap": jax.value_and_grad(lambda s: o.critic_gap(s[:, 0], SPOILT_T[:, 0], **masks)),
        "penalty": jax.value_and_grad(lambda s: o.gradient_penalty(lambda h: jnp.sin(h @ w), s, mask=MASK_S)),
        "discrepancy": jax.value_and_grad(lambda s: o.classifier_discrepancy(s, S[::-1], mask=MASK_S)),
        "certainty": jax.value_and_grad(lambda s: jnp.sum(o.certainty_weights(s, mask=MASK_S))),
    }
    for name, function in found.items():
        value, gradient = function(SPOILT_S)
        assert np.isfinite(value), name
        assert np.isfinite(gradient).all(), name
    slope = jax.grad(lambda a: o.gradient_penalty(lambda h: jnp.sin(h @ a), SPOILT_S, mask=MASK_S))(w)
    assert np.isfinite(slope).all()


def test_the_margin_is_of_each_row_and_its_own_class() -> None:
    """An index of all rows by all labels gives n² numbers, whose mean is another."""
    y = jnp.array([2, 0, 1, 1, 3])
    p = np.exp(np.asarray(T, np.float64))
    p = p / p.sum(1, keepdims=True)
    own, every = -np.log(1 - p[np.arange(5), y]), -np.log(1 - p[:, y])
    found = o.margin_disparity(S, T, jnp.zeros(6, int), y, gamma=0.0)
    np.testing.assert_allclose(found, own.mean(), rtol=1e-5)
    assert abs(own.mean() - every.mean()) > 0.01


def test_a_label_that_is_none_of_the_classes_is_not_passed_over() -> None:
    zeros_s, zeros_t = jnp.zeros(6, int), jnp.zeros(5, int)
    assert np.isnan(o.margin_disparity(S, T, zeros_s.at[1].set(4), zeros_t))
    assert np.isnan(o.margin_disparity(S, T, zeros_s, zeros_t.at[1].set(4)))
    assert np.isfinite(o.margin_disparity(S, T, zeros_s, zeros_t.at[4].set(4), target_mask=MASK_T))
    more = {**BATCH, "source": {"x": S, "labels": jnp.arange(6)}}
    for objective in (ft.mcd(), ft.dann(class_weights=(1.0, 1.0, 1.0))):
        assert np.isnan(stepped(objective, later=more)[2]["loss"])
    ignored = {**BATCH, "source": {"x": S, "labels": jnp.array([0, 1, 2, -100, 0, 1])}}
    assert np.isfinite(stepped(ft.dann(class_weights=(1.0, 1.0, 1.0)), later=ignored)[2]["loss"])


def test_class_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ft.InputError, match=r"for each of 3 classes, but got \[2\]"):
        stepped(ft.dann(class_weights=(1.0, 1.0)))
    with pytest.raises(ft.InputError, match="needs labels"):
        stepped(ft.dann(class_weights=(1.0, 1.0, 1.0)), batch={"source": {"x": S}, "target": {"x": T}})
    real = {**BATCH, "source": {"x": S, "labels": jnp.zeros(6)}}
    with pytest.raises(ft.InputError, match="labels, whole numbers"):
        stepped(ft.dann(class_weights=(1.0, 1.0, 1.0)), batch=real)
    with pytest.raises(ft.InputError, match=r"a weight for each of 6 rows, but got \[5\]"):
        o.domain_cross_entropy(S[:, 0], T[:, 0], source_weights=jnp.ones(5))


@term
def test_a_batch_whose_target_is_empty_is_refused_in_every_step(name: str) -> None:
    """Else the mean over no rows would be zero, and the source would train alone."""
    with pytest.raises(ft.InputError, match=rf"{name} expects rows .* of the target, at least one"):
        stepped(TERMS[name](), later={**BATCH, "target": {"x": T[:0]}})


@term
def test_a_target_of_which_no_row_counts_leaves_everything_finite(name: str) -> None:
    nothing = {**BATCH, "target": {"x": T, "mask": jnp.zeros(5, bool)}}
    _, after, metrics = stepped(TERMS[name](), rate=0.1, later=nothing)
    assert all(np.isfinite(value) for value in metrics.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after.delta, after.weights)))


@pytest.mark.parametrize("build", [ft.dann, ft.cdan, ft.mdd])
def test_a_scale_that_goes_wrong_never_trains_in_silence(build: Any) -> None:
    for scale in (None, np.bool_(True), float("inf"), [1.0], 1j):
        with pytest.raises(ft.InputError, match="number from 0 up"):
            build(scale=scale)
    for schedule in (lambda step: jnp.nan + step, lambda step: -1.0 - step):
        assert np.isnan(stepped(build(scale=schedule))[2]["loss"])
    with pytest.raises(ft.InputError, match=r"has the shape \[2\]"):
        stepped(build(scale=lambda step: jnp.ones(2)))
    for good in (1, 0.5, np.float32(2), jnp.float32(2), jnp.bfloat16(1)):
        assert np.isfinite(stepped(build(scale=good))[2]["loss"])


def test_a_run_stops_at_a_scale_of_nan_and_names_it() -> None:
    late = ft.combine(domain=ft.dann(scale=lambda step: jnp.where(step < 2, 1.0, jnp.nan)))
    step = ft.make_step(model, ft.full(), late, optax.sgd(0.1))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    batches = [jax.tree.map(np.asarray, BATCH)] * 5
    with pytest.raises(NonFiniteLoss, match=r"at step 3;.*not finite either: .*domain/scale"):
        fit(step, frozen, state, batches, steps=5, progress=False)


def test_the_steps_and_gamma_of_schedules_are_checked() -> None:
    for steps in (0, -1, True, 1.5, "100"):
        for build in (ft.reversal_schedule, lambda steps: ft.inverse_decay(0.1, steps)):
            with pytest.raises(ft.InputError, match="a whole number from 1 up"):
                build(steps)
    for gamma in (0.0, -10.0, True, float("nan")):
        with pytest.raises(ft.InputError, match="above zero"):
            ft.reversal_schedule(10, gamma=gamma)
    assert float(ft.reversal_schedule(10, gamma=1.0)(10)) == pytest.approx(2 / (1 + np.exp(-1)) - 1)
    optimizer = optax.sgd(ft.inverse_decay(0.1, 10))
    state = optimizer.init(jnp.ones(()))
    assert float(optimizer.update(jnp.ones(()), state)[0]) == pytest.approx(-0.1)


@pytest.mark.parametrize(("size", "random"), [(1365, False), (1366, True)])
def test_products_of_more_than_4096_numbers_are_mapped_at_random(size: int, random: bool) -> None:
    params = {"body": {"kernel": jnp.ones((4, size))}, "head": {"kernel": jnp.ones((size, 3))}}
    frozen, state = jax.eval_shape(ft.make_step(model, ft.full(), ft.cdan(), optax.sgd(0.1)).init, KEY, params, BATCH)
    assert bool(jax.tree.leaves(frozen.objective)) == random
    assert state.weights[0]["kernel"].shape == (1024 if random else 3 * size, 100)


def test_the_critic_learns_in_its_turn_and_the_features_in_the_main_part() -> None:
    before, after, _ = stepped(ft.wdgrl(critic=optax.sgd(0.0)))
    assert moved(before, after) == {"delta/body/kernel"}
    before, after, _ = stepped(ft.wdgrl(critic=optax.sgd(1e-3)), rate=0.0)
    assert {path.partition("/")[0] for path in moved(before, after)} == {"weights"}


def test_the_critic_repeats_as_often_as_it_says() -> None:
    """Repeats one after the other are as many steps of one repeat, where nothing else moves."""
    five = stepped(ft.wdgrl(critic=optax.sgd(0.01), penalty=0.0), rate=0.0)[1].weights
    step = ft.make_step(model, ft.full(), ft.wdgrl(critic=optax.sgd(0.01), penalty=0.0, repeats=1), optax.sgd(0.0))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    for _ in range(4):
        state, _ = step.update(frozen, state, BATCH)
    four = state.weights
    close(step.update(frozen, state, BATCH)[0].weights, five)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(jax.tree.leaves(four), jax.tree.leaves(five), strict=True))


def test_the_features_of_wdgrl_descend_what_the_critic_climbs() -> None:
    before, _, metrics = stepped(ft.wdgrl(critic=optax.sgd(0.0)), rate=0.0)

    def distance(params: Any) -> Any:
        f_s, f_t = (o.apply_mlp(before.weights, model(params, BATCH[view]).features)[:, 0] for view in BATCH)
        return o.critic_gap(f_s, f_t)

    np.testing.assert_allclose(metrics["loss"], distance(PARAMS), rtol=1e-5)
    _, after, _ = stepped(ft.wdgrl(critic=optax.sgd(0.0)), rate=1.0)
    slope = jax.grad(distance)(PARAMS)["body"]["kernel"]
    close(after.delta["body"]["kernel"], PARAMS["body"]["kernel"] - slope)
    # In its turn the critic goes the other way, where the penalty is off.
    before, after, _ = stepped(ft.wdgrl(critic=optax.sgd(1e-3), penalty=0.0, repeats=1), rate=0.0)
    f = [model(PARAMS, BATCH[view]).features for view in BATCH]
    climb = jax.grad(lambda w: o.critic_gap(*(o.apply_mlp(w, x)[:, 0] for x in f)))(before.weights)
    close(grown(before.weights, after.weights), jax.tree.map(lambda leaf: 1e-3 * leaf, climb))


def test_points_between_are_of_rows_that_count() -> None:
    """What a masked row holds changes no bit of what the critic learns."""
    masked = {"source": {"x": S, "labels": jnp.zeros(6, int), "mask": MASK_S}, "target": {"x": T, "mask": MASK_T}}
    other = {
        "source": masked["source"] | {"x": jnp.where(MASK_S[:, None], S, 7.0)},
        "target": masked["target"] | {"x": jnp.where(MASK_T[:, None], T, -7.0)},
    }
    states = [stepped(ft.wdgrl(critic=optax.adam(0.1)), batch=batch)[1] for batch in (masked, other)]
    assert ft.fingerprint(states[0].weights) == ft.fingerprint(states[1].weights)


def test_the_encoder_of_adda_learns_in_the_main_part_and_the_discriminator_in_its_turn() -> None:
    for adapt in (ft.freeze("head/**"), ft.chain(ft.tune("body/**"))):
        body = "delta/body/kernel" if adapt.init(KEY, PARAMS)[1].__class__ is dict else "delta/0/body/kernel"
        before, after, _ = stepped(ft.adda(discriminator=optax.sgd(0.0)), adapt=adapt)
        assert moved(before, after) == {body}
        before, after, _ = stepped(ft.adda(discriminator=optax.sgd(1.0)), rate=0.0, adapt=adapt)
        assert body not in moved(before, after)
        assert moved(before, after)


def test_adda_compares_with_the_encoder_as_training_began() -> None:
    step = ft.make_step(model, ft.freeze("head/**"), ft.adda(discriminator=optax.sgd(0.0)), optax.sgd(1.0))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    for _ in range(3):
        before = state
        state, metrics = step.update(frozen, state, BATCH)
    now = {"body": before.delta["body"], "head": PARAMS["head"]}
    z_s = o.apply_mlp(state.weights, model(PARAMS, BATCH["source"]).features)[:, 0]
    z_t = o.apply_mlp(state.weights, model(now, BATCH["target"]).features)[:, 0]
    np.testing.assert_allclose(metrics["discriminator"], o.domain_cross_entropy(z_s, z_t), rtol=1e-5)
    assert np.any(np.abs(now["body"]["kernel"] - PARAMS["body"]["kernel"]) > 1e-3)


@pytest.mark.parametrize("adapt", [ft.full(), ft.chain(ft.tune("body/**"), ft.tune("head/**"))])
def test_each_part_of_mcd_by_hand(adapt: ft.Adaptation) -> None:
    """One step of A, B and C, C twice, is plain gradient descent on three losses, also through a chain."""
    objective = ft.combine(task=ft.cross_entropy("source"), heads=ft.mcd(repeats=2))
    step = ft.make_step(model, adapt, objective, optax.sgd(0.1))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    after, metrics = jax.jit(step.update)(frozen, state, BATCH)
    learned = {"body": PARAMS["body"], "head": PARAMS["head"], "second": state.weights["heads"]}

    def risk(learned: Any) -> Any:
        labels, outputs = BATCH["source"]["labels"], model(learned, BATCH["source"])
        second = o.apply_mlp(learned["second"], outputs.features)
        return o.softmax_cross_entropy(outputs.logits, labels) + o.softmax_cross_entropy(second, labels)

    def apart(learned: Any) -> Any:
        outputs = model(learned, BATCH["target"])
        return o.classifier_discrepancy(outputs.logits, o.apply_mlp(learned["second"], outputs.features))

    def descend(loss: Any, learned: Any, parts: set[str]) -> Any:
        slope = jax.grad(loss)(learned)
        moved = jax.tree.map(lambda w, g: w - 0.1 * g, learned, slope)
        return {part: moved[part] if part in parts else learned[part] for part in learned}

    learned = descend(risk, learned, {"body", "head", "second"})
    learned = descend(lambda parts: risk(parts) - apart(parts), learned, {"head", "second"})
    learned = descend(apart, learned, {"body"})
    np.testing.assert_allclose(metrics["heads/features"], apart(learned), rtol=1e-4)
    learned = descend(apart, learned, {"body"})
    found = ft.merge(adapt, frozen.model, after.delta)
    close({**found, "second": after.weights["heads"]}, learned, atol=1e-5)


def test_the_second_head_of_mcd_starts_elsewhere() -> None:
    before, _, metrics = stepped(ft.mcd(), rate=0.0)
    assert before.weights[0]["kernel"].shape == PARAMS["head"]["kernel"].shape
    assert np.abs(before.weights[0]["kernel"] - PARAMS["head"]["kernel"]).max() > 0.1
    assert metrics["heads/discrepancy"] > 0.01


def test_mcd_says_what_it_misses() -> None:
    with pytest.raises(ft.InputError, match="'head/\\*\\*' matches none"):
        stepped(ft.mcd(), adapt=ft.freeze("head/**"))
    with pytest.raises(ft.InputError, match="needs labels"):
        stepped(ft.mcd(), batch={"source": {"x": S}, "target": {"x": T}})
    with pytest.raises(ft.InputError, match=r"two logits \[batch, classes\] of one shape"):
        o.classifier_discrepancy(S, T)
