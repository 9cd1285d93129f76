"""Figures of a classification: by hand, against scikit-learn, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

import jaxft as ft
from jaxft.metrics import classification_metrics, wilson_interval


def test_by_hand():
    predicted, labels = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 0])
    found = classification_metrics(np.eye(3)[predicted], labels)
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["f1"] == pytest.approx((0.4 + 2 / 3 + 0.0) / 3)
    assert found["loss"] == pytest.approx(np.log(np.e + 2) - 0.5)
    assert "f1_positive" not in found
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson_interval(3, 6)


@pytest.mark.parametrize("classes", [2, 4])
def test_scikit_learn_agrees(classes):
    rng = np.random.default_rng(classes)
    logits, labels = rng.normal(size=(50, classes)), rng.integers(0, classes, 50)
    found, predicted = classification_metrics(logits, labels), logits.argmax(1)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "f1": metrics.f1_score(labels, predicted, average="macro"),
        "mcc": metrics.matthews_corrcoef(labels, predicted),
        "loss": metrics.log_loss(labels, probabilities),
    }
    if classes == 2:
        expected["f1_positive"] = metrics.f1_score(labels, predicted)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "labels", "f1", "positive"),
    [([1, 1], [1, 1], 1.0, 1.0), ([0, 0], [0, 0], 1.0, 0.0), ([0, 0], [1, 1], 0.0, 0.0), ([0, 1], [0, 0], 1 / 3, 0.0)],
)
def test_where_a_class_is_missing(predicted, labels, f1, positive):
    found = classification_metrics(np.eye(2)[predicted], np.array(labels))
    assert (found["f1"], found["f1_positive"], found["mcc"]) == (pytest.approx(f1), positive, 0.0)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(ft.InputError, match=rf"from 0 to 2, but there are \[{label}\]"):
        classification_metrics(np.eye(3), np.array([0, 1, label]))


def test_logits_that_are_nan_give_no_figure():
    logits = np.array([[2.0, 1.0], [np.nan, 0.0]])
    figures = classification_metrics(logits, np.array([0, 0]))
    assert figures.keys() == classification_metrics(np.nan_to_num(logits), np.array([0, 0])).keys()
    assert all(np.isnan(value) for value in figures.values())
