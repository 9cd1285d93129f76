"""Which of several models to keep, chosen without the target's labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.errors import InputError, nearest
from jaxft.shift.criteria import CRITERIA
from jaxft.shift.rows import Labelled, Unlabelled, checked, matrix


def select(sources: Sequence[Labelled], targets: Sequence[Unlabelled], *, criterion: str = "InfoMax") -> int:
    """The index of the best of several models, or of several moments of one run.

    Args:
        sources: of each, what it makes of the same held-out rows of the source.
        targets: of each, what it makes of the same unlabelled rows of the target.
        criterion: a name in `CRITERIA`.

    Returns:
        The first of the best. A model whose outputs are not finite is never chosen.

    Raises:
        InputError: there is no such criterion, nothing to choose from, or nothing finite.

    Example:
        >>> source = Labelled(np.eye(2), np.eye(2), np.arange(2))
        >>> unsure, sure = (Unlabelled(np.eye(2), scale * np.eye(2)) for scale in (1, 9))
        >>> select([source, source], [unsure, sure])
        1
    """
    if criterion not in CRITERIA:
        hint = "; labels of the target are for oracle_accuracy alone" if "oracle" in str(criterion) else ""
        raise InputError(f"there is no criterion {criterion!r} ({nearest(str(criterion), CRITERIA)}){hint}")
    if not sources or len(sources) != len(targets):
        raise InputError(
            f"select chooses among models with rows of both domains, but got {len(sources)} of the source and "
            f"{len(targets)} of the target"
        )
    scores = [
        CRITERIA[criterion](source, target) if _finite(source, target) else -np.inf
        for source, target in zip(sources, targets, strict=True)
    ]
    if not np.isfinite(scores).any():
        raise InputError("no model has finite outputs, so there is none to choose; every run has diverged")
    return int(np.argmax(scores))


def oracle_accuracy(logits: Any, labels: Any) -> float:
    """Accuracy on the target by its own labels: what a selection is measured by, and must not choose by.

    Args:
        logits: of the target's rows, ``[rows, classes]``.
        labels: whole numbers ``[rows]``.

    Raises:
        InputError: shapes do not fit together, or a label is none of the classes.

    Example:
        >>> oracle_accuracy(np.eye(2), np.array([0, 0]))
        0.5
    """
    values = matrix(logits, "logits of the target")
    return float((values.argmax(1) == checked(labels, values)).mean())


def _finite(*parts: Labelled | Unlabelled) -> bool:
    return all(np.isfinite(np.asarray(values)).all() for part in parts for values in (part.features, part.logits))
