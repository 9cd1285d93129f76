"""Scores of labels as probabilities, freed of what a model says whatever the text."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax

from jaxft.errors import InputError

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts without content, for contextual calibration."""


def probabilities(scores: np.ndarray) -> np.ndarray:
    """p_y ∝ e^{s_y} over the labels, ``[rows, labels]``.

    Args:
        scores: log-probabilities ``[rows, labels]``.

    Example:
        >>> probabilities(np.log([[0.1, 0.3]])).round(4).tolist()
        [[0.25, 0.75]]
    """
    found: np.ndarray = np.exp(log_softmax(np.asarray(scores, np.float64), axis=-1))
    return found


def contextual_calibration(predicted: np.ndarray, content_free: np.ndarray) -> np.ndarray:
    """Probabilities divided by those of prompts without content, and brought to sum one.

    q ∝ diag(p_cf)⁻¹ p,  p_cf the mean of the probabilities over texts without content

    Args:
        predicted: p, ``[rows, labels]``.
        content_free: probabilities of the same prompts with texts such as "N/A", ``[texts, labels]``.

    Raises:
        InputError: the labels differ in number, or a label has probability 0 without content.

    Example:
        >>> contextual_calibration(np.array([[0.8, 0.2]]), np.array([[0.9, 0.1], [0.7, 0.3]])).round(3).tolist()
        [[0.5, 0.5]]

    References:
        Zhao et al., "Calibrate Before Use: Improving Few-Shot Performance of Language Models", 2021.
    """
    p, free = np.asarray(predicted, np.float64), np.asarray(content_free, np.float64)
    if p.ndim != 2 or free.ndim != 2 or p.shape[1] != free.shape[1]:
        raise InputError(
            f"calibration expects probabilities [rows, labels] of the same labels, but they are {list(p.shape)} and "
            f"{list(free.shape)}"
        )
    mean = free.mean(axis=0)
    if not (mean > 0).all():
        raise InputError(f"label {int(np.argmin(mean)) + 1} has probability 0 without content: nothing divides by it")
    q: np.ndarray = p / mean
    return q / q.sum(axis=1, keepdims=True)


def pointwise_mutual_information(scores: np.ndarray, unconditional: np.ndarray) -> np.ndarray:
    """log p(y|x) − log p(y), ``[rows, labels]``.

    Args:
        scores: log p(y|x), ``[rows, labels]``.
        unconditional: log p(y) behind a prompt without a text, ``[labels]``.

    Example:
        >>> pointwise_mutual_information(np.array([[-1.0, -2.0]]), np.array([-1.0, -3.0])).tolist()
        [[0.0, 1.0]]

    References:
        Holtzman et al., "Surface Form Competition: Why the Highest Probability Answer Isn't Always Right", 2021.
    """
    found: np.ndarray = np.asarray(scores, np.float64) - np.asarray(unconditional, np.float64)
    return found


def nearest_neighbours(anchors: np.ndarray, labels: np.ndarray, queries: np.ndarray, *, k: int = 3) -> np.ndarray:
    """The label that most of the nearest cached distributions have: kNN prompting.

    d_i = KL(p_i ‖ q), of anchor i and the query; on a tie the nearest of those labels

    Args:
        anchors: log-probabilities of the next token behind prompts of labelled rows, ``[n, vocabulary]``.
        labels: of these, integers ``[n]``.
        queries: so of the rows to label, ``[m, vocabulary]``.
        k: neighbours that vote, at most n.

    Returns:
        Labels ``[m]``.

    Raises:
        InputError: the vocabularies differ, there is not one label an anchor, or k is out of range.

    Example:
        >>> log_p = np.log([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
        >>> nearest_neighbours(log_p, np.array([0, 1, 1]), np.log([[0.8, 0.2], [0.25, 0.75]]), k=1).tolist()
        [0, 1]

    References:
        Xu et al., "kNN Prompting: Beyond-Context Learning with Calibration-Free Nearest Neighbor Inference", 2023.
    """
    log_p, log_q = np.asarray(anchors, np.float64), np.asarray(queries, np.float64)
    labels = np.asarray(labels)
    if log_p.ndim != 2 or log_q.ndim != 2 or log_p.shape[1] != log_q.shape[1] or labels.shape != log_p.shape[:1]:
        raise InputError(
            "kNN prompting expects log-probabilities [n, vocabulary] and [m, vocabulary] and labels [n], but they are "
            f"{list(log_p.shape)}, {list(log_q.shape)} and {list(labels.shape)}"
        )
    if not 1 <= k <= len(labels):
        raise InputError(f"k is from 1 to the {len(labels)} anchors, but is {k}")
    p = np.exp(log_p)
    distances = np.sum(p * log_p, axis=1)[None] - log_q @ p.T
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.array([_vote(labels[row]) for row in order], labels.dtype)


def _vote(near: np.ndarray) -> int:
    """The most frequent, on a tie the one that comes first."""
    values, first, counts = np.unique(near, return_index=True, return_counts=True)
    best = counts == counts.max()
    found: int = values[best][np.argmin(first[best])]
    return found
