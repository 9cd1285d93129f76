"""What an adaptation keeps beside the frozen params."""

from __future__ import annotations

from typing import NamedTuple

from jaxft.types import Frozen, Params, PyTree


class Kept(NamedTuple):
    """Frozen params, and arrays that belong to no place in them, such as random matrices that layers share.

    Attributes:
        params: laid out as the params, for the next adaptation of a chain.
        extra: arrays of this adaptation alone.
    """

    params: Params
    extra: PyTree


def open_kept(frozen: Frozen) -> Kept:
    """The params and extra arrays of what any adaptation froze; ``()`` when there are none."""
    return frozen if isinstance(frozen, Kept) else Kept(frozen, ())
