"""Figures of a regression: against scipy and numpy, and where nothing varies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

import jaxft as ft
from jaxft.metrics import regression_metrics


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_numpy_and_scipy_agree(ties, scale):
    rng = np.random.default_rng(0)
    true = rng.normal(size=40)
    predicted = true + rng.normal(size=40)
    if ties:
        true, predicted = true.round(), predicted.round()
    found = regression_metrics(predicted[:, None], true)
    assert found["mse"] == pytest.approx(np.mean((predicted - true) ** 2))
    assert found["pearson"] == pytest.approx(np.corrcoef(predicted, true)[0, 1])
    assert found["spearman"] == pytest.approx(spearmanr(predicted, true).statistic)
    with np.errstate(over="ignore"):
        scaled = regression_metrics(predicted * scale, true)
    assert (scaled["pearson"], scaled["spearman"]) == pytest.approx((found["pearson"], found["spearman"]))


def test_ties_share_their_rank():
    """Ranks 1.5, 1.5, 3 and 1, 2, 3: the correlation is √3/2."""
    assert regression_metrics(np.array([5.0, 5.0, 9.0]), np.arange(3.0))["spearman"] == pytest.approx(np.sqrt(3) / 2)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 / 3])
def test_nothing_correlates_with_a_constant(constant):
    same, other = np.full(7, constant), np.arange(7.0)
    for found in (regression_metrics(same, other), regression_metrics(other, same)):
        assert (found["pearson"], found["spearman"]) == (0.0, 0.0)


def test_a_prediction_that_is_no_number_shows():
    found = regression_metrics(np.array([1.0, np.nan, 2.0]), np.arange(3.0))
    assert np.isnan(list(found.values())).all()


def test_other_shapes_are_refused():
    with pytest.raises(ft.InputError, match="one value a row"):
        regression_metrics(np.ones((3, 2)), np.arange(3.0))
    with pytest.raises(ft.InputError, match="at least one row"):
        regression_metrics(np.ones((0, 1)), np.ones(0))
