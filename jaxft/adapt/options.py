"""Settings of an adaptation, one for all weights or by glob over paths, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxft.adapt.masked import MaskedRank
from jaxft.errors import InputError, nearest
from jaxft.trees import first_match
from jaxft.types import Array


def check_rank(rank: Any, method: str) -> None:
    """Refuses a rank, or one of a mapping, that is no whole number from 1 up."""
    for r in rank.values() if isinstance(rank, Mapping) else (rank,):
        if isinstance(r, MaskedRank):
            raise InputError(f"{method} expects a whole number as a rank; a masked rank is one of jaxft.lora alone")
        if isinstance(r, bool) or not isinstance(r, (int, np.integer)) or r < 1:
            raise InputError(f"{method} expects a rank of at least 1, a whole number, but got {r!r}")


def check_size(size: Any, method: str, name: str) -> None:
    """Refuses a size that is no whole number from 1 up."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
        raise InputError(f"{method} expects {name} to be a whole number from 1 up, but got {size!r}")


def check_rate(rate: float | Array, method: str) -> None:
    """Refuses a dropout rate outside [0, 1); a traced one is not looked at."""
    if isinstance(rate, (int, float, np.number)) and not 0 <= rate < 1:
        raise InputError(f"{method} expects a dropout rate in [0, 1), but got {rate}")


def is_zero(rate: float | Array) -> bool:
    """Whether a rate is known to be zero."""
    return isinstance(rate, (int, float, np.number)) and bool(rate == 0)


def for_path(option: Any, path: str, name: str) -> Any:
    """The value of an option at a path: itself, or of a mapping the value of the first pattern that matches."""
    if not isinstance(option, Mapping):
        return option
    pattern = first_match(option, path)
    if pattern is None:
        raise InputError(
            f"no pattern of {name} matches the selected weight {path!r}; add a last pattern '**' for the rest"
        )
    return option[pattern]


def check_patterns(option: Any, chosen: list[str], name: str) -> None:
    """Refuses a mapping with a pattern that matches no selected weight."""
    if isinstance(option, Mapping):
        for pattern in option:
            if not any(first_match([pattern], path) for path in chosen):
                raise InputError(
                    f"the pattern {pattern!r} of {name} matches none of the {len(chosen)} selected weights; "
                    f"{nearest(pattern, chosen)}"
                )
