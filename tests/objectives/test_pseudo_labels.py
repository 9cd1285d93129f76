"""Pseudo-labels and FixMatch: values by loops, what is sure alone counts, and no gradient to where labels come from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import confident_cross_entropy
from jaxft.types import Outputs
from tests.objectives.contexts import context

RNG = np.random.default_rng(0)
P, Q = (RNG.normal(size=(6, 3)) * 2 for _ in range(2))
THRESHOLDS = (0.0, 0.6, 0.9)
MASK = np.array([True, True, False, True, True, False])


def softmax(z: Any) -> Any:
    e = np.exp(np.asarray(z, np.float64) - np.max(z, axis=-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(logits: Any, teacher: Any, threshold: float, mask: Any) -> tuple[float, float]:
    total, kept, rows = 0.0, 0, 0
    for z, t, m in zip(logits, teacher, mask, strict=True):
        if m:
            rows += 1
            q = softmax(t)
            if q.max() >= threshold:
                kept += 1
                total -= np.log(softmax(z)[q.argmax()])
    return total / rows, kept / rows


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_values_by_loops(threshold: float) -> None:
    found = confident_cross_entropy(jnp.asarray(P), jnp.asarray(Q), threshold=threshold, mask=jnp.asarray(MASK))
    np.testing.assert_allclose(found, by_hand(P, Q, threshold, MASK), rtol=1e-5, atol=1e-7)


def test_the_thresholds_tried_are_between_the_rows() -> None:
    shares = [by_hand(P, Q, threshold, MASK)[1] for threshold in THRESHOLDS]
    assert shares == [1.0, 0.75, 0.0]


def test_no_gradient_goes_to_where_the_labels_come_from() -> None:
    slope = jax.grad(lambda t: confident_cross_entropy(jnp.asarray(P, jnp.float32), t)[0])(jnp.asarray(Q, jnp.float32))
    assert not slope.any()
    check_grads(
        lambda z: confident_cross_entropy(z, jnp.asarray(Q), threshold=0.6)[0],
        (jnp.asarray(P, jnp.float32),),
        order=1,
        modes=["rev"],
        rtol=1e-2,
    )


def test_rows_that_do_not_count_reach_nothing_whatever_they_are() -> None:
    mask = jnp.asarray(MASK)
    broken = jnp.where(mask[:, None], jnp.asarray(P, jnp.float32), jnp.nan)
    (loss, kept), slope = jax.value_and_grad(
        lambda z: confident_cross_entropy(z, z, threshold=0.6, mask=mask), has_aux=True
    )(broken)
    np.testing.assert_allclose((loss, kept), by_hand(P, P, 0.6, MASK), rtol=1e-5)
    assert np.isfinite(slope).all()
    assert not slope[2].any()


def test_pseudo_labels_of_a_view_and_never_its_labels() -> None:
    batch = {"target": {"x": jnp.ones(6), "mask": jnp.asarray(MASK)}}
    objective = ft.pseudo_labels(threshold=0.6)
    loss, (memory, metrics) = objective.apply((), (), (), context(batch, {"target": jnp.asarray(P)}))
    np.testing.assert_allclose((loss, metrics["kept"]), by_hand(P, P, 0.6, MASK), rtol=1e-5)
    assert memory == ()
    told = {"target": batch["target"] | {"labels": jnp.zeros(6, int)}}
    assert objective.apply((), (), (), context(told, {"target": jnp.asarray(P)}))[0] == loss


def test_tokens_of_no_text_do_not_count() -> None:
    logits, attention = jnp.asarray(P).reshape(2, 3, 3), jnp.array([[1, 1, 0], [1, 1, 0]])
    batch = {"target": {"attention_mask": attention}}
    loss, (_, metrics) = ft.pseudo_labels(threshold=0.6).apply((), (), (), context(batch, {"target": logits}))
    np.testing.assert_allclose((loss, metrics["kept"]), by_hand(P, P, 0.6, MASK), rtol=1e-5)


def test_fixmatch_of_two_views() -> None:
    batch = {"target": {"x": jnp.ones(6), "mask": jnp.asarray(MASK)}, "strong": {"x": jnp.ones(6)}}
    found = context(batch, {"target": jnp.asarray(Q), "strong": jnp.asarray(P)})
    loss, (_, metrics) = ft.fixmatch(threshold=0.6).apply((), (), (), found)
    np.testing.assert_allclose((loss, metrics["kept"]), by_hand(P, Q, 0.6, MASK), rtol=1e-5)
    swapped = {"target": {"x": jnp.ones(6)}, "strong": batch["target"]}
    again = ft.fixmatch(threshold=0.6).apply((), (), (), found._replace(batch=swapped))[0]
    assert again == loss


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    return Outputs(logits=jnp.tanh(batch["x"]) @ params["kernel"])


PARAMS = {"kernel": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)}
X = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)


def first(objective: ft.Objective, batch: Any) -> Any:
    step = ft.make_step(model, ft.full(), objective, optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), PARAMS, batch)
    return jax.jit(step.update)(frozen, state, batch)


def test_fixmatch_with_a_function_inside_the_step() -> None:
    seen: list[Any] = []

    def double(key: Any, inputs: Any) -> Any:
        seen.append((key, sorted(inputs)))
        return {"x": 2 * inputs["x"]}

    target = {"x": X, "mask": jnp.ones(5, bool), "labels": jnp.zeros(5, int)}
    state, metrics = first(ft.fixmatch("target", double, threshold=0.5), {"target": target})
    expected = by_hand(model(PARAMS, {"x": 2 * X}).logits, model(PARAMS, {"x": X}).logits, 0.5, np.ones(5, bool))
    np.testing.assert_allclose((metrics["loss"], metrics["kept"]), expected, rtol=1e-5)
    assert all(names == ["x"] for _, names in seen)
    on_host, _ = first(ft.fixmatch(threshold=0.5), {"target": {"x": X}, "strong": {"x": 2 * X}})
    np.testing.assert_allclose(state.delta["kernel"], on_host.delta["kernel"], rtol=1e-5)


TWO = jnp.zeros((2, 3))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: confident_cross_entropy(TWO, jnp.zeros((2, 4))), r"but they are \[2, 3\] and \[2, 4\]"),
        (lambda: confident_cross_entropy(jnp.zeros((2, 1)), jnp.zeros((2, 1))), "at least two classes"),
        (
            lambda: ft.pseudo_labels("other").apply((), (), (), context({"target": {}}, {"other": TWO})),
            "reads the view",
        ),
        (
            lambda: ft.fixmatch().apply(
                (), (), (), context({"target": {}, "strong": {}}, {"target": TWO, "strong": jnp.zeros((3, 3))})
            ),
            r"row i of 'strong' to be another view of row i of 'target', but their logits are \[3, 3\] and \[2, 3\]",
        ),
        (lambda: first(ft.fixmatch("target", lambda key, x: {"y": x["x"]}), {"target": {"x": X}}), r"returned \['y'\]"),
        (lambda: first(ft.fixmatch("target", lambda key, x: x["x"]), {"target": {"x": X}}), "some of .'x'., but it "),
        (
            lambda: first(ft.fixmatch("target", lambda key, x: {"x": x["x"][:2]}), {"target": {"x": X}}),
            r"keep the shape of 'x', \[5, 4\], but returned \[2, 4\]",
        ),
    ],
)
def test_what_gives_no_labels_is_refused(wrong: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        wrong()
