"""Importance weights: how much more of the target than of the source is where a row of the source lies."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.shift.rows import pair


def density_ratio(source: Any, target: Any, *, rows: Any = None, penalty: float = 1.0) -> np.ndarray:
    """w(x) = (n / m) p(target | x) / p(source | x), of a linear classifier of the domain.

    Features are scaled to mean zero and deviation one before they are told apart by a logistic regression.

    Args:
        source: features ``[n, dim]``.
        target: ``[m, dim]``.
        rows: ``[rows, dim]``, whose weights are wanted; those of the source if None.
        penalty: strength of the classifier's squared penalty.

    Returns:
        Weights ``[rows]``, above zero, of mean about one over the source.

    Raises:
        InputError: features that are not finite, of different sizes, or of fewer than two rows.

    Example:
        >>> x = np.arange(20.0)[:, None]
        >>> w = density_ratio(x, x + 5)
        >>> bool(w[-1] > 1 > w[0])
        True

    References:
        Bickel et al., "Discriminative Learning for Differing Training and Test Distributions", 2007.
    """
    from sklearn.linear_model import LogisticRegression

    s, t = pair(source, target, rows=2)
    wanted = s if rows is None else pair(rows, t)[0]
    both = np.concatenate([s, t])
    mean, deviation = both.mean(0), both.std(0)
    scaled = (both - mean) / np.where(deviation > 0, deviation, 1.0)
    domain = np.repeat([0, 1], [len(s), len(t)])
    classifier = LogisticRegression(C=1 / penalty, max_iter=1000).fit(scaled, domain)
    odds = classifier.decision_function((wanted - mean) / np.where(deviation > 0, deviation, 1.0))
    return np.asarray(np.exp(odds) * len(s) / len(t))


def kliep(
    source: Any, target: Any, *, width: float | None = None, centres: int = 100, rows: Any = None, steps: int = 2000
) -> np.ndarray:
    """w(x) = Σ_l α_l exp(−‖x − c_l‖² / 2σ²), α ≥ 0: the most likely target under w · source.

    max Σ_j log w(t_j)  with  mean_i w(s_i) = 1

    Args:
        source: features ``[n, dim]``.
        target: ``[m, dim]``.
        width: σ; the median distance between rows of the target if None.
        centres: c, at most so many rows of the target, evenly taken.
        rows: ``[rows, dim]``, whose weights are wanted; those of the source if None.
        steps: of the search by expectation and maximisation, each of which is no worse than the one before.

    Returns:
        Weights ``[rows]``, of mean one over the source.

    Raises:
        InputError: features that are not finite or of different sizes, fewer than two rows, a width that is not
            above zero, or one so small that the source has nothing near the target.

    Example:
        >>> x = np.arange(20.0)[:, None] / 4
        >>> w = kliep(x, x[10:])
        >>> bool(w[-3] > 1 > w[2]), round(float(w.mean()), 6)
        (True, 1.0)

    References:
        Sugiyama et al., "Direct Importance Estimation with Model Selection and Its Application to Covariate Shift
        Adaptation", 2007.
    """
    s, t = pair(source, target, rows=2)
    sigma = _width(width, t)
    c = t[np.unique(np.linspace(0, len(t) - 1, min(centres, len(t))).astype(int))]
    wanted = s if rows is None else pair(rows, t)[0]
    mean = _kernel(s, c, sigma).mean(0)
    if not mean.all():
        raise InputError("rows of the target lie where the source has none at all; give a larger width")
    # With β = α · mean, of sum one, w is a mixture of known densities, whose best shares these steps find.
    parts, beta = _kernel(t, c, sigma) / mean, np.full(len(c), 1 / len(c))
    for _ in range(steps):
        beta = beta * (parts / np.maximum(parts @ beta, 1e-300)[:, None]).mean(0)
    return np.asarray(_kernel(wanted, c, sigma) / mean @ beta)


def kmm(
    source: Any,
    target: Any,
    *,
    width: float | None = None,
    bound: float = 1000.0,
    slack: float | None = None,
    steps: int = 2000,
) -> np.ndarray:
    """Weights under which the source's mean in the space of a kernel is the target's.

    min ½ wᵀ K w − κᵀ w  with  0 ≤ w ≤ B,  |mean w − 1| ≤ ε,  κ_i = (n / m) Σ_j k(s_i, t_j)

    Args:
        source: features ``[n, dim]``.
        target: ``[m, dim]``.
        width: σ of k(x, y) = exp(−‖x − y‖² / 2σ²); the median distance between rows of the target if None.
        bound: B.
        slack: ε; (√n − 1) / √n if None, as the paper proposes.
        steps: of the search, accelerated projected gradient steps.

    Returns:
        Weights of the source's rows, ``[n]``.

    Raises:
        InputError: as `kliep`; or no weights of mean one are within bound and slack.

    Example:
        >>> x = np.arange(20.0)[:, None] / 4
        >>> w = kmm(x, x[10:])
        >>> bool(w[10:].mean() > 1 > w[:10].mean())
        True

    References:
        Huang et al., "Correcting Sample Selection Bias by Unlabeled Data", 2006.
    """
    s, t = pair(source, target, rows=2)
    sigma, n = _width(width, t), len(s)
    k, kappa = _kernel(s, s, sigma), n * _kernel(s, t, sigma).mean(1)
    epsilon = (np.sqrt(n) - 1) / np.sqrt(n) if slack is None else slack
    if not (bound >= 1 and epsilon >= 0):
        raise InputError(f"weights of mean one need a bound from 1 up and a slack from 0 up, not {bound} and {slack}")
    rate = 1 / np.linalg.norm(k, 2)
    w = ahead = np.ones(n)
    speed = 1.0
    for _ in range(steps):
        before, w = w, _in_bounds(ahead - rate * (k @ ahead - kappa), bound, epsilon)
        faster = (1 + np.sqrt(1 + 4 * speed**2)) / 2
        ahead, speed = w + (speed - 1) / faster * (w - before), faster
    return w


def _in_bounds(w: np.ndarray, bound: float, epsilon: float) -> np.ndarray:
    """The nearest weights between 0 and the bound whose mean is within ε of one."""
    clipped = np.clip(w, 0, bound)
    wanted = float(np.clip(clipped.mean(), 1 - epsilon, 1 + epsilon))
    if clipped.mean() == wanted:
        return clipped
    low, high = -float(w.max()), bound - float(w.min())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(w + middle, 0, bound).mean() < wanted else (low, middle)
    return np.clip(w + high, 0, bound)


def _width(width: float | None, rows: np.ndarray) -> float:
    from scipy.spatial.distance import pdist

    found = float(np.median(pdist(rows))) if width is None else float(width)
    if not found > 0:
        raise InputError(
            f"the width of the kernel is a number above zero, but is {found}: rows of the target are alike"
        )
    return found


def _kernel(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return np.asarray(np.exp(-cdist(x, y, "sqeuclidean") / (2 * sigma**2)))
