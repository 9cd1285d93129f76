"""How good a model is on the target, as far as can be said without the target's labels. Larger is better."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.objectives import mmd2
from jaxft.shift.importance import density_ratio
from jaxft.shift.rows import Labelled, Unlabelled, checked, matrix, pair, softmax


def source_accuracy(source: Labelled, target: Unlabelled) -> float:
    """The share of the source's rows that are right: what a run that knows nothing of the target is chosen by.

    Example:
        >>> eye = np.eye(2)
        >>> source_accuracy(Labelled(eye, eye, np.array([0, 0])), Unlabelled(eye, eye))
        0.5
    """
    del target
    return float(_right(source).mean())


def negative_entropy(source: Labelled, target: Unlabelled) -> float:
    """−mean H(p) on the target: predictions that are sure.

    Example:
        >>> eye = np.eye(2)
        >>> round(negative_entropy(Labelled(eye, eye, np.array([0, 1])), Unlabelled(eye, 0 * eye)), 4)
        -0.6931

    References:
        Morerio et al., "Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain Adaptation", 2018.
    """
    del source
    return float(-_entropy(_predicted(target)).mean())


def infomax(source: Labelled, target: Unlabelled) -> float:
    """H(mean p) − mean H(p) on the target: sure of each row, and different over the rows.

    Example:
        >>> eye = 100 * np.eye(2)
        >>> round(infomax(Labelled(eye, eye, np.array([0, 1])), Unlabelled(eye, eye)), 4)
        0.6931

    References:
        Musgrave et al., "Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation",
        2022.
    """
    del source
    p = _predicted(target)
    return float(_entropy(p.mean(0, keepdims=True))[0] - _entropy(p).mean())


def soft_neighbourhood_density(source: Labelled, target: Unlabelled, *, temperature: float = 0.05) -> float:
    """Mean entropy of each target row's similarities to the others: large where neighbourhoods are dense.

    S_ij = p_i · p_j / (‖p_i‖ ‖p_j‖),  P = softmax_j≠i(S / τ),  mean_i H(P_i)

    Example:
        >>> eye = np.eye(3)
        >>> round(soft_neighbourhood_density(Labelled(eye, eye, np.arange(3)), Unlabelled(eye, 0 * eye)), 4)
        0.6931

    References:
        Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
        Density", 2021.
    """
    del source
    p = _predicted(target, rows=2)
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    similar = unit @ unit.T / temperature
    np.fill_diagonal(similar, -np.inf)
    return float(_entropy(softmax(similar)).mean())


def nuclear_norm(source: Labelled, target: Unlabelled) -> float:
    """‖P‖_* / √(rows · min(rows, classes)) of the target's predictions, at most 1: sure and diverse.

    Example:
        >>> eye = 100 * np.eye(2)
        >>> round(nuclear_norm(Labelled(eye, eye, np.arange(2)), Unlabelled(eye, eye)), 4)
        1.0

    References:
        Cui et al., "Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient
        Situations", 2020. Musgrave et al., 2022 (as a criterion).
    """
    del source
    p = _predicted(target)
    return float(np.linalg.norm(p, "nuc") / np.sqrt(len(p) * min(p.shape)))


def negative_mmd(source: Labelled, target: Unlabelled) -> float:
    """−MMD² of the features: domains that lie together.

    Example:
        >>> eye = np.eye(3)
        >>> negative_mmd(Labelled(eye, eye, np.arange(3)), Unlabelled(eye + 5, eye)) < 0
        True

    References:
        Gretton et al., "A Kernel Two-Sample Test", 2012.
    """
    s, t = pair(source.features, target.features, rows=2)
    return float(-mmd2(jnp.asarray(s, jnp.float32), jnp.asarray(t, jnp.float32)))


def importance_weighted_accuracy(source: Labelled, target: Unlabelled) -> float:
    """mean w · right over the source, w the density ratio of the domains' features.

    Example:
        >>> x = np.arange(8.0)[:, None]
        >>> logits = np.eye(2)[np.repeat([0, 1], 4)]
        >>> source = Labelled(x, logits, np.ones(8, int))
        >>> importance_weighted_accuracy(source, Unlabelled(x + 3, logits)) > 0.5
        True

    References:
        Sugiyama et al., "Covariate Shift Adaptation by Importance Weighted Cross Validation", 2007.
    """
    w = density_ratio(source.features, target.features)
    return float((w * _right(source)).mean())


def deep_embedded_validation(source: Labelled, target: Unlabelled) -> float:
    """−R of deep embedded validation: the weighted error with the weights' mean as a control variate.

    R = mean(L) + η mean(w) − η,  L_i = w_i [i is wrong],  η = −Cov(L, w) / Var(w)

    Example:
        >>> x = np.arange(8.0)[:, None]
        >>> logits = np.eye(2)[np.repeat([0, 1], 4)]
        >>> perfect = Labelled(x, logits, np.repeat([0, 1], 4))
        >>> abs(deep_embedded_validation(perfect, Unlabelled(x + 3, logits)))
        0.0

    References:
        You et al., "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation", 2019.
    """
    w = density_ratio(source.features, target.features)
    loss = w * (1.0 - _right(source))
    spread = float(np.var(w, ddof=1)) if len(w) > 1 else 0.0
    eta = -float(np.cov(loss, w)[0, 1]) / spread if spread > 0 else 0.0
    return float(-(loss.mean() + eta * w.mean() - eta))


CRITERIA = {
    "source accuracy": source_accuracy,
    "entropy": negative_entropy,
    "InfoMax": infomax,
    "SND": soft_neighbourhood_density,
    "DEV": deep_embedded_validation,
    "IWCV": importance_weighted_accuracy,
    "BNM": nuclear_norm,
    "MMD": negative_mmd,
}
"""Name -> criterion, a function of the source's held-out rows and the target's unlabelled ones."""


def _right(source: Labelled) -> np.ndarray:
    logits = matrix(source.logits, "logits of the source")
    return np.asarray(logits.argmax(1) == checked(source.labels, logits), np.float64)


def _predicted(target: Unlabelled, rows: int = 1) -> np.ndarray:
    if not isinstance(target, Unlabelled):
        raise InputError(
            f"a criterion reads jaxft.shift.Unlabelled(features, logits) of the target, not {type(target).__name__}"
        )
    return softmax(matrix(target.logits, "logits of the target", rows))


def _entropy(p: np.ndarray) -> np.ndarray:
    return np.asarray(-np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1))
