"""Feature transforms in closed form: the source's rows moved to where the target's lie, before any training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxft.errors import InputError
from jaxft.shift.rows import pair


class Aligned(NamedTuple):
    """Features of both domains in one space.

    Attributes:
        source: ``[n, dim]``.
        target: ``[m, dim]``.
    """

    source: np.ndarray
    target: np.ndarray


def coral_transform(source: Any, target: Any, *, regularisation: float = 1.0) -> np.ndarray:
    """X_s (C_s + λI)^{−½} (C_t + λI)^{½}: the source with the covariance of the target.

    Args:
        source: features ``[n, dim]``.
        target: ``[m, dim]``.
        regularisation: λ.

    Returns:
        The source's rows, ``[n, dim]``.

    Raises:
        InputError: features that are not finite, of different sizes, or of fewer than two rows; λ below zero, or zero
            where a covariance of the source is singular.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> moved = coral_transform(x, 3 * x, regularisation=1e-6)
        >>> np.round(np.cov(moved.T) / np.cov(x.T), 1).diagonal().tolist()
        [9.0, 9.0]

    References:
        Sun et al., "Return of Frustratingly Easy Domain Adaptation", 2016.
    """
    s, t = pair(source, target, rows=2)
    if not regularisation >= 0:
        raise InputError(f"the regularisation is a number from 0 up, but is {regularisation}")
    whitened = s @ _power(np.cov(s.T), regularisation, -0.5)
    return np.asarray(whitened @ _power(np.cov(t.T), regularisation, 0.5))


def subspace_alignment(source: Any, target: Any, *, dim: int) -> Aligned:
    """The source in its own principal axes, turned onto the target's: X_s P_s P_sᵀ P_t beside X_t P_t.

    Features are scaled to mean zero and deviation one in each domain, as in the paper.

    Args:
        source: features ``[n, dim]``.
        target: ``[m, dim]``.
        dim: of the subspace.

    Raises:
        InputError: as `coral_transform`; or ``dim`` is not from 1 to what rows and features allow.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 4)) * [4, 3, 2, 1]
        >>> found = subspace_alignment(x, x + 1, dim=2)
        >>> bool(np.allclose(found.source, found.target))
        True

    References:
        Fernando et al., "Unsupervised Visual Domain Adaptation Using Subspace Alignment", 2013.
    """
    s, t = (_standard(x) for x in pair(source, target, rows=2))
    _check_dim(dim, min(len(s), len(t), s.shape[1]), "subspace_alignment")
    p_s, p_t = (np.linalg.svd(x, full_matrices=False)[2][:dim].T for x in (s, t))
    return Aligned(s @ p_s @ (p_s.T @ p_t), t @ p_t)


def transfer_components(
    source: Any, target: Any, *, dim: int, mu: float = 1.0, width: float | None = None, linear: bool = False
) -> Aligned:
    """Transfer component analysis: directions of a kernel's space in which the domains' means are close.

    W: the leading eigenvectors of (K L K + μI)⁻¹ K H K;  features K W

    L compares the means of the domains, H centres; so that all rows together keep their variance.

    Args:
        source: features ``[n, dim]``.
        target: ``[m, dim]``.
        dim: of the new features.
        mu: μ, weight of the components' size.
        width: σ of k(x, y) = exp(−‖x − y‖² / 2σ²); the median distance between rows if None.
        linear: k(x, y) = x · y instead.

    Raises:
        InputError: as `coral_transform`; ``dim`` is not from 1 to all rows less one, or μ is not above zero.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(30, 3))
        >>> found = transfer_components(x, x + 2, dim=2)
        >>> found.source.shape, found.target.shape
        ((30, 2), (30, 2))

    References:
        Pan et al., "Domain Adaptation via Transfer Component Analysis", 2011.
    """
    from scipy.linalg import eigh

    s, t = pair(source, target, rows=2)
    n, m = len(s), len(t)
    _check_dim(dim, n + m - 1, "transfer_components")
    if not mu > 0:
        raise InputError(f"mu is a number above zero, but is {mu}")
    x = np.concatenate([s, t])
    k = x @ x.T if linear else _gaussian(x, width)
    e = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    centred = k - k.mean(0)
    # (K L K + μI)⁻¹ K H K w = v w  is the symmetric pair  K H K w = v (K L K + μI) w.
    _, w = eigh(
        centred.T @ centred, np.outer(k @ e, k @ e) + mu * np.eye(n + m), subset_by_index=(n + m - dim, n + m - 1)
    )
    features = k @ w[:, ::-1]
    return Aligned(features[:n], features[n:])


def _power(covariance: np.ndarray, regularisation: float, exponent: float) -> np.ndarray:
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    values = np.maximum(values, 0) + regularisation
    if exponent < 0 and values.min() <= 1e-12 * max(values.max(), 1e-300):
        raise InputError("the covariance of the source is singular; give a regularisation above zero")
    return np.asarray((vectors * values**exponent) @ vectors.T)


def _standard(x: np.ndarray) -> np.ndarray:
    deviation = x.std(0)
    return np.asarray((x - x.mean(0)) / np.where(deviation > 0, deviation, 1.0))


def _gaussian(x: np.ndarray, width: float | None) -> np.ndarray:
    from scipy.spatial.distance import pdist, squareform

    distances = pdist(x)
    sigma = float(np.median(distances)) if width is None else float(width)
    if not sigma > 0:
        raise InputError(f"the width of the kernel is a number above zero, but is {sigma}")
    return np.asarray(np.exp(-(squareform(distances) ** 2) / (2 * sigma**2)))


def _check_dim(dim: int, most: int, name: str) -> None:
    if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or not 1 <= dim <= most:
        raise InputError(f"dim of {name} is a whole number from 1 to {most}, what these rows allow, but is {dim!r}")
