"""Predictions and the figures over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.train import classification_metrics, evaluate, predict, regression_metrics, wilson_interval
from jaxft.types import Outputs


def batches_of(x, size):
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        missing = size - len(rows)
        mask = np.arange(size) < len(rows)
        yield {
            "x": np.pad(rows, ((0, missing), (0, 0)), constant_values=7.0),
            "labels": np.zeros(size, int),
            "mask": mask,
        }


def test_predicts_the_real_rows_in_order_and_traces_once_a_shape():
    traces = []

    def apply(params, batch):
        traces.append(batch["x"].shape)
        assert "labels" not in batch
        assert "mask" not in batch
        return Outputs(logits=batch["x"] @ params)

    x = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
    params = jnp.eye(4)[:, :2]
    for _ in range(3):
        np.testing.assert_allclose(predict(apply, params, batches_of(x, 5)), x[:, :2])
    assert traces == [(5, 4)]
    predict(apply, params, batches_of(x, 8))
    assert traces == [(5, 4), (8, 4)]


def test_a_plain_function_with_low_rank_weights():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    adaptation = ft.lora("kernel", rank=2)
    frozen, delta = adaptation.init(jax.random.key(0), {"kernel": jnp.eye(4)})
    delta = jax.tree.map(jnp.ones_like, delta)
    merged = ft.merge(adaptation, frozen, delta)["kernel"]
    assert not np.array_equal(merged, np.eye(4))
    bound = adaptation.bind(frozen, delta)
    found = predict(lambda params, batch: batch["x"] @ params["kernel"], bound, batches_of(x, 4))
    np.testing.assert_allclose(found, x @ merged, rtol=1e-5, atol=1e-5)


def test_padding_rows_never_count():
    x = np.array([[2.0, 1.0]] * 3, np.float32)
    figures = evaluate(lambda params, batch: Outputs(logits=batch["x"]), None, batches_of(x, 8))
    assert figures["accuracy"] == 1.0
    assert figures["loss"] == pytest.approx(np.log1p(np.exp(-1.0)))


def test_regression():
    batch = {
        "x": np.array([1.0, 2.0, 4.0, 9.0]),
        "labels": np.array([1.0, 2.0, 3.0, 0.0]),
        "mask": np.array([1, 1, 1, 0]),
    }
    found = evaluate(lambda params, batch: Outputs(logits=batch["x"][:, None]), None, [batch], task="regress")
    assert found["mse"] == pytest.approx(1 / 3)
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
    assert regression_metrics(np.ones((3, 1)), np.arange(3.0))["pearson"] == 0.0
    with pytest.raises(ft.InputError, match="one value a row"):
        regression_metrics(np.ones((3, 2)), np.arange(3.0))


def test_classification_by_hand():
    predicted, labels = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    found = classification_metrics(np.eye(3)[predicted], labels)
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["f1"] == pytest.approx((0.4 + 2 / 3 + 0.0) / 3)
    assert classification_metrics(np.eye(3)[[1, 1]], np.array([1, 1]))["mcc"] == 0.0


@pytest.mark.parametrize(("correct", "total"), [(0, 5), (5, 5), (1, 2), (1796, 2128)])
def test_the_interval_solves_its_equation(correct, total):
    share = correct / total
    for bound in wilson_interval(correct, total):
        assert (share - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / total, abs=1e-9)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ft.InputError, match=rf"from 0 to 2, but there are \[{label}\]"):
        classification_metrics(np.eye(3), np.array([0, 1, label]))


def test_an_unknown_task_is_refused():
    with pytest.raises(ft.InputError, match="but is 'regression'"):
        evaluate(lambda params, batch: batch["x"], None, [], task="regression")


def test_nothing_to_predict_is_refused():
    def apply(params, batch):
        return Outputs(logits=batch["x"])

    with pytest.raises(ft.InputError, match="nothing to predict"):
        predict(apply, None, [])
    with pytest.raises(ft.InputError, match="nothing to evaluate"):
        evaluate(apply, None, [])
    with pytest.raises(ft.InputError, match="has none: predict needs no labels"):
        evaluate(apply, None, [{"x": np.ones((2, 2))}])
    with pytest.raises(ft.InputError, match="at least one row"):
        wilson_interval(0, 0)
