"""The estimator: scikit-learn's own checks, what adaptation gains, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

import jaxft as ft

DRAW = np.random.default_rng(0)
Y = np.arange(240) % 3
CENTRES = 3 * DRAW.normal(size=(3, 8))
X = (CENTRES[Y] + DRAW.normal(size=(240, 8))).astype(np.float32)
TARGET = (0.6 * (CENTRES[Y] + DRAW.normal(size=(240, 8))) + 1.5).astype(np.float32)


def adapter(method: str = "mmd", **options: Any) -> Any:
    return ft.sklearn.DomainAdapter(method, **{"steps": 150, "hidden": (32,), "random_state": 0} | options)


QUICK = (
    "check_classifiers_train",
    "check_dont_overwrite_attributes",
    "check_estimators_nan_inf",
    "check_estimators_pickle",
    "check_fit2d_1sample",
    "check_n_features_in",
    "check_parameters_default_constructible",
)
"""The checks of `make test`; `make test-all` runs all."""


def checks() -> Iterator[Any]:
    estimator = ft.sklearn.DomainAdapter(steps=60, hidden=(16,), batch_size=32, learning_rate=1e-2)
    for number, (own, check) in enumerate(estimator_checks_generator(estimator)):
        name = check.func.__name__
        yield pytest.param(own, check, id=f"{name}-{number}", marks=() if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


METHODS = [
    pytest.param(name, marks=() if name in ("source_only", "mmd", "dann", "mcd", "wdgrl") else pytest.mark.slow)
    for name in ft.sklearn.METHODS
]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(method: str) -> None:
    fitted = adapter(method, steps=40).fit(X, Y, X_target=TARGET)
    assert np.isfinite(fitted.predict_proba(TARGET)).all()
    assert fitted.history_["loss"].shape == (40,)
    assert ("method" in fitted.history_) == (method != "source_only")


def test_adaptation_gains_on_the_target() -> None:
    plain, adapted = (
        adapter(method, weight=10.0, steps=300).fit(X, Y, X_target=TARGET) for method in ("source_only", "mmd")
    )
    assert adapted.score(TARGET, Y) > plain.score(TARGET, Y) + 0.1
    assert adapted.score(X, Y) > 0.9


def test_labels_may_be_strings_and_seeds_repeat() -> None:
    names = np.array(["ant", "bee", "cat"])[Y]
    first, again = (adapter().fit(X, names, X_target=TARGET) for _ in range(2))
    assert set(first.predict(TARGET)) <= {"ant", "bee", "cat"}
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    other = adapter(random_state=1).fit(X, names, X_target=TARGET)
    assert np.any(first.predict_proba(X) != other.predict_proba(X))


def test_it_is_an_estimator_among_others() -> None:
    search = GridSearchCV(adapter(steps=20), {"weight": [0.1, 1.0]}, cv=2).fit(X, Y, X_target=TARGET)
    assert search.best_params_["weight"] in (0.1, 1.0)


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        ({"method": "dan"}, TARGET, "no method 'dan' .*dann"),
        ({"steps": 0}, TARGET, "steps is a whole number"),
        ({"batch_size": 1.5}, TARGET, "batch_size is a whole number"),
        ({}, TARGET[:, :5], "8 features and the target 5; .*two_encoders"),
        ({}, TARGET[:0], "0 sample"),
        ({}, np.full_like(TARGET, np.nan), "NaN"),
        ({"learning_rate": 1e30, "steps": 20}, TARGET, "training diverged"),
    ],
)
def test_what_does_not_fit_is_refused(options: Any, target: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapter(**options).fit(X, Y, X_target=target)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="one class"):
        adapter().fit(X, np.zeros(240, int), X_target=TARGET)
