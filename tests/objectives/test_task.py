"""Supervised objectives: values by hand, values of torch, and what does not count."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import softmax_cross_entropy
from tests.objectives.contexts import context

LOGITS = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [1.0, 1.0, 1.0], [-2.0, 3.0, 0.0]])
LABELS = jnp.array([0, 2, 1, 0])
WEIGHTS = (0.5, 2.0, 1.0)


def by_hand(epsilon: float = 0.0, weights: Any = (1, 1, 1), rows: Any = (0, 1, 2, 3)) -> float:
    z = np.asarray(LOGITS, np.float64)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    total = norm = 0.0
    for row in rows:
        y = int(LABELS[row])
        hard = -weights[y] * log_p[row, y]
        smooth = -sum(w * value for w, value in zip(weights, log_p[row], strict=True)) / 3
        total, norm = total + (1 - epsilon) * hard + epsilon * smooth, norm + weights[y]
    return total / norm


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_closed_form(epsilon: float, weights: Any) -> None:
    options = {"label_smoothing": epsilon, "class_weights": weights}
    expected = by_hand(epsilon, weights or (1, 1, 1))
    for function in (softmax_cross_entropy, jax.jit(softmax_cross_entropy)):
        kept = {name: value if value is None else jnp.asarray(value) for name, value in options.items()}
        np.testing.assert_allclose(function(LOGITS, LABELS, **kept), expected, rtol=1e-6)


def test_torch_agrees() -> None:
    """``torch.nn.functional.cross_entropy(LOGITS, LABELS, weight=WEIGHTS, label_smoothing=0.1)`` of torch 2.13."""
    found = softmax_cross_entropy(LOGITS, LABELS, class_weights=jnp.array(WEIGHTS), label_smoothing=0.1)
    np.testing.assert_allclose(found, 1.518671274, rtol=1e-6)


def test_ignored_labels_and_masked_rows_do_not_count() -> None:
    expected = by_hand(rows=(0, 2))
    ignored = jnp.array([0, -100, 1, -100])
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, ignored), expected, rtol=1e-6)
    mask = jnp.array([True, False, True, False])
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, LABELS, mask=mask), expected, rtol=1e-6)
    other = jnp.where(mask, LABELS, 7)
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS, jnp.where(mask, LABELS, 5), mask=mask, ignore_index=5), expected, rtol=1e-6
    )
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, other, mask=mask), expected, rtol=1e-6)


def test_rows_that_do_not_count_may_hold_anything() -> None:
    mask = jnp.array([True, False, True, True])
    broken = LOGITS.at[1].set(jnp.array([jnp.nan, jnp.inf, -jnp.inf]))
    loss, slope = jax.value_and_grad(softmax_cross_entropy)(broken, LABELS, mask=mask)
    np.testing.assert_allclose(loss, by_hand(rows=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(slope[1], 0)
    assert jnp.isfinite(slope).all()

    def squares(z: Any) -> Any:
        batch = {"labels": jnp.zeros(2), "mask": jnp.array([True, False])}
        return ft.mean_squared_error().apply((), (), (), context(batch, z))[0]

    np.testing.assert_array_equal(jax.grad(squares)(jnp.array([1.0, jnp.nan])), [2.0, 0.0])


def test_a_class_that_is_ruled_out_leaves_the_others_finite() -> None:
    loss, slope = jax.value_and_grad(softmax_cross_entropy)(jnp.array([[0.0, -jnp.inf, 0.0]]), jnp.array([0]))
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(slope, [[-0.5, 0.0, 0.5]], atol=1e-6)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_gives_nan(label: int) -> None:
    assert jnp.isnan(softmax_cross_entropy(LOGITS, LABELS.at[0].set(label)))


@pytest.mark.parametrize(
    ("labels", "options", "reason"),
    [
        (LABELS * 1.0, {}, "whole numbers as labels, but they are float32"),
        (LABELS, {"class_weights": jnp.ones(2)}, r"each of 3 classes, but got \[2\]"),
        (LABELS, {"mask": jnp.ones(1, bool)}, r"leading axes of the labels, \[4\], but these are \[1\]"),
    ],
)
def test_what_does_not_fit_is_refused(labels: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        softmax_cross_entropy(LOGITS, labels, **options)


def test_an_array_is_no_view() -> None:
    with pytest.raises(ft.InputError, match="'x' is one array of the batch, not a view"):
        ft.cross_entropy("x").apply((), (), (), context({"x": LOGITS, "labels": LABELS}, LOGITS))


def test_a_mask_over_rows_covers_their_tokens() -> None:
    logits, labels = jnp.stack([LOGITS, LOGITS]), jnp.stack([LABELS, LABELS])
    found = softmax_cross_entropy(logits, labels.at[0, 1].set(-100), mask=jnp.array([True, False]))
    np.testing.assert_allclose(found, by_hand(rows=(0, 2, 3)), rtol=1e-6)


def test_nothing_that_counts_gives_zero_and_a_zero_gradient() -> None:
    nothing = jnp.full(4, -100)
    loss, gradient = jax.value_and_grad(softmax_cross_entropy)(LOGITS, nothing)
    assert loss == 0
    assert not gradient.any()


def test_gradients_and_extreme_logits() -> None:
    check_grads(lambda z: softmax_cross_entropy(z, LABELS, label_smoothing=0.1), (LOGITS,), order=1, modes=["rev"])
    loss, gradient = jax.value_and_grad(softmax_cross_entropy)(LOGITS * 1e6, LABELS)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def test_bfloat16_logits_are_summed_in_float32() -> None:
    assert softmax_cross_entropy(LOGITS.astype(jnp.bfloat16), LABELS).dtype == jnp.float32


def test_order_does_not_matter() -> None:
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        softmax_cross_entropy(LOGITS[order], LABELS[order]), softmax_cross_entropy(LOGITS, LABELS), rtol=1e-6
    )


def test_shapes_must_fit() -> None:
    with pytest.raises(ft.InputError, match=r"logits are \[4, 3\] and labels \[2\]"):
        softmax_cross_entropy(LOGITS, LABELS[:2])


def test_the_objective_reports_accuracy_of_what_counts() -> None:
    batch = {"labels": LABELS, "mask": jnp.array([True, True, False, False])}
    loss, (memory, metrics) = ft.cross_entropy().apply((), (), (), context(batch, LOGITS))
    np.testing.assert_allclose(loss, by_hand(rows=(0, 1)), rtol=1e-6)
    assert metrics["accuracy"] == 0.5
    assert memory == ()


@pytest.mark.parametrize(
    ("batch", "view", "reason"),
    [
        ({"source": {"labels": LABELS}}, "sources", r"reads the view 'sources', but the batch has \['source'\]"),
        ({"x": LOGITS}, None, r"needs labels, but the batch has only \['x'\]; add them"),
        ({"source": {"labels": LABELS}}, None, "name one of its views"),
        ({"target": {"x": LOGITS}}, "target", "needs labels"),
    ],
)
@pytest.mark.parametrize("objective", [ft.cross_entropy, ft.mean_squared_error])
def test_labels_must_be_there(objective: Any, batch: Any, view: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        objective(view).apply((), (), (), context(batch, LOGITS))


@pytest.mark.parametrize(
    ("labels", "mask", "value"),
    [
        ([1.0, 2.0, 4.0, 0.0], None, (1 + 4 + 16 + 0) / 4),
        ([[1.0], [2.0], [4.0], [0.0]], None, 21 / 4),
        ([1.0, 2.0, 4.0, float("nan")], [True, True, False, False], 5 / 2),
        ([1.0, 2.0, 4.0, 0.0], [False] * 4, 0.0),
    ],
)
def test_mean_squared_error(labels: Any, mask: Any, value: float) -> None:
    batch = {"labels": jnp.array(labels)} | ({} if mask is None else {"mask": jnp.array(mask)})

    def loss(z: jax.Array) -> jax.Array:
        return ft.mean_squared_error().apply((), (), (), context(batch, z))[0]

    found, gradient = jax.value_and_grad(loss)(jnp.zeros((4, 1)))
    np.testing.assert_allclose(found, value)
    assert np.isfinite(gradient).all()


def test_mean_squared_error_refuses_other_shapes() -> None:
    with pytest.raises(ft.InputError, match=r"shape of the logits, \[4, 3\], but the labels are \[4\]"):
        ft.mean_squared_error().apply((), (), (), context({"labels": LABELS}, LOGITS))


def test_weights_of_rows_weigh_the_mean() -> None:
    logits, labels = jax.random.normal(jax.random.key(0), (5, 3)), jnp.array([0, 1, 2, -100, 1])
    w = jnp.array([1.0, 0.0, 2.5, 7.0, 0.5])
    losses = -np.asarray(jax.nn.log_softmax(logits))[np.arange(5), np.maximum(labels, 0)]
    counted = np.array([1.0, 0.0, 2.5, 0.0, 0.5])
    expected = (counted * losses).sum() / counted.sum()
    np.testing.assert_allclose(softmax_cross_entropy(logits, labels, row_weights=w), expected, rtol=1e-6)
    tokens = softmax_cross_entropy(logits[None], labels[None], row_weights=jnp.ones(1), label_smoothing=0.1)
    np.testing.assert_allclose(tokens, softmax_cross_entropy(logits, labels, label_smoothing=0.1), rtol=1e-6)
    with pytest.raises(ft.InputError, match="masks and weights are over the leading axes"):
        softmax_cross_entropy(logits, labels, row_weights=jnp.ones(4))


def test_a_column_of_weights_reaches_the_loss_and_not_the_model() -> None:
    seen: list[Any] = []

    def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        seen.append(sorted(batch))
        return batch["x"] @ params

    rows = {"x": jnp.eye(3), "labels": jnp.array([0, 1, 2])}
    step = ft.make_step(model, ft.full(), ft.cross_entropy("source"), optax.sgd(0.1))

    def loss(weight: Any) -> Any:
        batch = {"source": rows | {"weight": weight}}
        frozen, state = step.init(jax.random.key(0), jnp.diag(jnp.arange(3.0)), batch)
        return step.update(frozen, state, batch)[1]["loss"]

    first = -jax.nn.log_softmax(jnp.array([0.0, 0.0, 0.0]))[0]
    np.testing.assert_allclose(loss(jnp.array([2.0, 0.0, 0.0])), first, rtol=1e-6)
    assert seen[0] == ["x"]
    assert np.isnan(loss(jnp.array([-1.0, 1.0, 1.0])))
