"""How sure a proportion is."""

from __future__ import annotations

import math

from jaxft.errors import InputError


def wilson_interval(correct: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a proportion, by default with 95 % coverage.

    Args:
        correct: successes.
        total: trials.
        z: quantile of the normal distribution.

    Raises:
        InputError: there are no trials.

    Example:
        >>> [round(bound, 4) for bound in wilson_interval(9, 10)]
        [0.5958, 0.9821]

    References:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    if total < 1:
        raise InputError("an interval needs at least one row")
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
