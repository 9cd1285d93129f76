"""Criteria against their definitions, and what a choice by them may look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import jaxft as ft
from jaxft.shift import CRITERIA, Labelled, Unlabelled

DRAW = np.random.default_rng(0)
SOURCE = Labelled(DRAW.normal(size=(40, 3)), 2 * DRAW.normal(size=(40, 4)), DRAW.integers(0, 4, 40))
TARGET = Unlabelled(DRAW.normal(size=(30, 3)) + 1, 2 * DRAW.normal(size=(30, 4)))


def softmax(z: Any) -> Any:
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


P = softmax(TARGET.logits)
RIGHT = (SOURCE.logits.argmax(1) == SOURCE.labels).astype(float)
W = ft.shift.density_ratio(SOURCE.features, TARGET.features)


def entropy(p: Any) -> Any:
    return -(p * np.log(p)).sum(-1)


def by_loops() -> float:
    unit = [row / np.sqrt((row**2).sum()) for row in P]
    total = 0.0
    for i in range(30):
        e = np.exp([unit[i] @ unit[j] / 0.05 for j in range(30) if j != i])
        total += entropy(e / e.sum()) / 30
    return total


def dev() -> float:
    loss = W * (1 - RIGHT)
    covariance = ((loss - loss.mean()) * (W - W.mean())).sum() / 39
    eta = -covariance / W.var(ddof=1)
    return -(loss.mean() + eta * W.mean() - eta)


def mmd2(s: Any, t: Any) -> float:
    pooled = np.concatenate([s, t])
    distances = np.array([((a - b) ** 2).sum() for i, a in enumerate(pooled) for b in pooled[i + 1 :]])
    m = np.sort(distances)[(len(distances) - 1) // 2] + 1e-6

    def k(x: Any, y: Any) -> float:
        return float(np.mean([np.exp(-((x - y) ** 2).sum() / (m * 2.0**e)) for e in range(-2, 3)]))

    within_s = sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (len(s) * (len(s) - 1))
    within_t = sum(k(a, b) for i, a in enumerate(t) for j, b in enumerate(t) if i != j) / (len(t) * (len(t) - 1))
    return within_s + within_t - 2 * float(np.mean([k(a, b) for a in s for b in t]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("source accuracy", RIGHT.mean()),
        ("entropy", -entropy(P).mean()),
        ("InfoMax", entropy(P.mean(0)) - entropy(P).mean()),
        ("SND", by_loops()),
        ("DEV", dev()),
        ("IWCV", (W * RIGHT).mean()),
        ("BNM", np.linalg.svd(P)[1].sum() / np.sqrt(30 * 4)),
        ("MMD", -mmd2(SOURCE.features, TARGET.features)),
    ],
)
def test_a_criterion_is_its_definition(name: str, expected: float) -> None:
    assert CRITERIA[name](SOURCE, TARGET) == pytest.approx(expected, abs=1e-5)


def test_control_of_the_weights_variance() -> None:
    """With equal weights nothing is left of the control variate."""
    same = Unlabelled(SOURCE.features, SOURCE.logits)
    assert CRITERIA["DEV"](SOURCE, same) == pytest.approx(-(1 - RIGHT.mean()), abs=1e-6)


@pytest.mark.parametrize("name", CRITERIA)
def test_no_criterion_has_a_place_for_labels_of_the_target(name: str) -> None:
    assert "labels" not in Unlabelled._fields
    logits = np.eye(4)[DRAW.integers(0, 4, 30)]
    value = CRITERIA[name](SOURCE, TARGET._replace(logits=5 * logits))
    assert np.isfinite(value)


def test_select_takes_the_first_of_the_best_and_none_that_diverged() -> None:
    sharp = TARGET._replace(logits=3 * TARGET.logits)
    broken = TARGET._replace(logits=np.full((30, 4), np.nan))
    sources = [SOURCE] * 4
    assert ft.shift.select(sources, [broken, TARGET, sharp, sharp], criterion="entropy") == 2
    with pytest.raises(ft.InputError, match="every run has diverged"):
        ft.shift.select([SOURCE], [broken])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ft.shift.select([SOURCE], [TARGET], criterion="InfoMx"), "no criterion 'InfoMx' .*InfoMax"),
        (lambda: ft.shift.select([SOURCE], [TARGET], criterion="oracle"), "oracle_accuracy alone"),
        (lambda: ft.shift.select([], []), "got 0 of the source and 0 of the target"),
        (lambda: ft.shift.select([SOURCE], [TARGET, TARGET]), "got 1 of the source and 2"),
        (lambda: CRITERIA["InfoMax"](SOURCE, SOURCE), "Unlabelled.* not Labelled"),
        (lambda: CRITERIA["source accuracy"](SOURCE._replace(labels=np.full(40, 4)), TARGET), "there are 4 classes"),
        (lambda: CRITERIA["source accuracy"](SOURCE._replace(labels=np.ones(40)), TARGET), "a whole number for each"),
        (lambda: CRITERIA["MMD"](SOURCE, TARGET._replace(features=np.ones((30, 5)))), "heterogeneous transfer"),
        (lambda: CRITERIA["SND"](SOURCE, TARGET._replace(logits=np.ones((1, 4)))), "of 2 rows or more"),
        (lambda: CRITERIA["BNM"](SOURCE, TARGET._replace(logits=np.ones((0, 4)))), "of 1 rows or more"),
        (lambda: ft.shift.oracle_accuracy(np.eye(2), np.array([0, 2])), "there are 2 classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ft.InputError, match=message):
        call()


def test_oracle_accuracy() -> None:
    assert ft.shift.oracle_accuracy(np.eye(4), np.array([0, 1, 1, 3])) == 0.75
