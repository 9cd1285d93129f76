"""Figures of a regression: one number a row."""

from __future__ import annotations

import math

import numpy as np

from jaxft.errors import InputError


def regression_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean squared error, Pearson's correlation, and Spearman's: Pearson's of the ranks, ties sharing their mean rank.

    A correlation is 0 when either side is constant.

    Args:
        logits: ``[rows]`` or ``[rows, 1]`` predicted values.
        labels: ``[rows]`` true values.

    Raises:
        InputError: there are no rows, or not one prediction a label.

    Example:
        >>> regression_metrics(np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0]))
        {'mse': 0.333..., 'pearson': 0.981..., 'spearman': 1.0}

    References:
        Spearman, "The Proof and Measurement of Association between Two Things", 1904.
    """
    from scipy.stats import rankdata

    predicted, true = logits.reshape(-1).astype(np.float64), labels.reshape(-1).astype(np.float64)
    if predicted.shape != true.shape:
        raise InputError(f"a regression predicts one value a row, but logits are {logits.shape}, labels {labels.shape}")
    if not len(true):
        raise InputError("a regression needs at least one row to measure")
    return {
        "mse": float(((predicted - true) ** 2).mean()),
        "pearson": _correlation(predicted, true),
        "spearman": _correlation(rankdata(predicted), rankdata(true)),
    }


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:  # the mean of equal numbers may differ from them by rounding
        return 0.0
    # Scaled first, so that tiny or huge deviations neither vanish nor overflow when squared.
    a, b = ((values - values.mean()) / np.ptp(values) for values in (x, y))
    return float((a * b).sum() / math.sqrt(float((a * a).sum() * (b * b).sum())))
