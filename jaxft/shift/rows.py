"""What a criterion may look at: rows of the source with labels, rows of the target without."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxft.errors import InputError


class Labelled(NamedTuple):
    """Rows of the source that training has not seen.

    Attributes:
        features: ``[rows, dim]``, what the head reads.
        logits: ``[rows, classes]``.
        labels: whole numbers ``[rows]``.
    """

    features: Any
    logits: Any
    labels: Any


class Unlabelled(NamedTuple):
    """Rows of the target; there is no place for labels.

    Attributes:
        features: ``[rows, dim]``.
        logits: ``[rows, classes]``.
    """

    features: Any
    logits: Any


def matrix(values: Any, name: str, rows: int = 1) -> np.ndarray:
    """Numbers ``[rows, columns]`` in float64.

    Raises:
        InputError: they are no matrix, have too few rows, or are not all finite.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 2 or len(found) < rows:
        raise InputError(f"{name} are numbers [rows, columns] of {rows} rows or more, but they are {list(found.shape)}")
    if not np.isfinite(found).all():
        raise InputError(f"{name} hold numbers that are not finite: the run they come from has diverged")
    return found


def pair(source: Any, target: Any, rows: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Features of both domains, of one size.

    Raises:
        InputError: as `matrix`; or the sizes differ.
    """
    s, t = matrix(source, "features of the source", rows), matrix(target, "features of the target", rows)
    if s.shape[1] != t.shape[1]:
        raise InputError(
            f"the source has {s.shape[1]} features and the target {t.shape[1]}; for features of different sizes see "
            "heterogeneous transfer"
        )
    return s, t


def checked(labels: Any, logits: np.ndarray) -> np.ndarray:
    """Labels that are classes of the logits.

    Raises:
        InputError: they are no whole numbers ``[rows]``, or one is none of the classes.
    """
    found = np.asarray(labels)
    if found.shape != (len(logits),) or not np.issubdtype(found.dtype, np.integer):
        raise InputError(
            f"labels are a whole number for each of {len(logits)} rows, but are {found.dtype} {list(found.shape)}"
        )
    if len(found) and not 0 <= found.min() <= found.max() < logits.shape[1]:
        raise InputError(f"there are {logits.shape[1]} classes, but labels from {found.min()} to {found.max()}")
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))
