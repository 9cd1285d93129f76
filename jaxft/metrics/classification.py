"""Figures of a classification: one label a row."""

from __future__ import annotations

import numpy as np

from jaxft.errors import InputError
from jaxft.metrics.interval import wilson_interval


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy with its 95 % interval, F1, Matthews correlation and mean cross-entropy.

    ``f1`` averages over the classes that occur among labels or predictions; ``f1_positive``, of two classes only, is
    that of class 1. Both are scikit-learn's, 0 where nothing is found. The correlation is 0 when only one class occurs.
    Where a logit is NaN, every figure is.

    Args:
        logits: ``[rows, classes]``.
        labels: ``[rows]`` integers.

    Raises:
        InputError: there are no rows, or a label is none of the classes.

    Example:
        >>> figures = classification_metrics(np.eye(2)[[0, 1, 1, 1]] * 9.0, np.array([0, 1, 1, 0]))
        >>> print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        accuracy 0.750, accuracy_low 0.301, accuracy_high 0.954, f1 0.733, f1_positive 0.800, mcc 0.577, loss 2.250

    References:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
        Matthews, "Comparison of the predicted and observed secondary structure of T4 phage lysozyme", 1975.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    check_labels(labels, logits.shape[-1])
    predicted = logits.argmax(-1)
    correct = int((predicted == labels).sum())
    low, high = wilson_interval(correct, len(labels))
    figures = {
        "accuracy": correct / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
    }
    if logits.shape[-1] == 2:
        figures["f1_positive"] = float(f1_score(labels, predicted, labels=[1], average="macro", zero_division=0.0))
    several = len(np.union1d(labels, predicted)) > 1
    figures["mcc"] = float(matthews_corrcoef(labels, predicted)) if several else 0.0
    figures["loss"] = mean_cross_entropy(logits, labels)
    return sound(figures, logits)


def sound(figures: dict[str, float], logits: np.ndarray) -> dict[str, float]:
    """The figures, or NaN for each where a logit is: no class is the likeliest then.

    Example:
        >>> sound({"accuracy": 1.0}, np.array([[0.0, np.nan]]))
        {'accuracy': nan}
    """
    return dict.fromkeys(figures, float("nan")) if np.isnan(logits).any() else figures


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Raises InputError unless every label is one of the classes."""
    if wrong := sorted(set(labels[(labels < 0) | (labels >= classes)].tolist())):
        raise InputError(f"labels are whole numbers from 0 to {classes - 1}, but there are {wrong[:3]}: check the data")


def mean_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of −log p(label), in double precision; logits ``[rows, classes]``, labels ``[rows]``."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return float(-np.take_along_axis(log_probability, labels[:, None].astype(np.int64), -1).mean())
