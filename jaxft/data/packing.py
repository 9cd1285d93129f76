"""Documents packed into rows of one length, so that next to nothing is padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np

from jaxft.data.dataset import Dataset, Ragged, ragged
from jaxft.data.tokenizing import IGNORED
from jaxft.errors import InputError


def shifted(ids: Sequence[int], counts: Sequence[bool] | np.ndarray | None = None) -> np.ndarray:
    """The labels of a causal language model: at each token the next one, -100 at the last.

    Args:
        ids: the tokens of one document, ``[length]``.
        counts: whether each token is to be predicted, ``[length]``; all if not given.

    Example:
        >>> shifted([7, 8, 9]).tolist(), shifted([7, 8, 9], [False, False, True]).tolist()
        ([8, 9, -100], [-100, 9, -100])
    """
    labels = np.full(len(ids), IGNORED, np.int32)
    labels[:-1] = ids[1:]
    if counts is not None:
        labels[:-1][~np.asarray(counts, bool)[1:]] = IGNORED
    return labels


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Puts pieces into as few bins as it can: the longest first, each where it leaves the least room.

    At most 11/9 of the best number of bins, and one more. The same lengths give the same bins.

    Args:
        lengths: of the pieces, each from 1 to the capacity.
        capacity: of a bin.

    Returns:
        The pieces of each bin, by their place in ``lengths``, ascending; bins in the order of their first piece.

    Example:
        >>> best_fit([3, 7, 5, 4], 10)
        [[0, 1], [2, 3]]

    References:
        Johnson, "Near-optimal bin packing algorithms", 1973.
    """
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, bin), ascending
    for piece in sorted(range(len(lengths)), key=lambda piece: (-lengths[piece], piece)):
        place = bisect_left(rooms, (lengths[piece], -1))
        if place == len(rooms):
            room, chosen = capacity, len(bins)
            bins.append([])
        else:
            room, chosen = rooms.pop(place)
        bins[chosen].append(piece)
        if room > lengths[piece]:
            insort(rooms, (room - lengths[piece], chosen))
    return sorted(sorted(pieces) for pieces in bins)


def packed(
    pieces: Sequence[tuple[Sequence[int], np.ndarray]], *, length: int, fill: int, truncated: int = 0
) -> Dataset:
    """Rows of several pieces each, numbered from 1 in ``segment_ids``.

    Args:
        pieces: tokens and labels of each, equally long, at most ``length``.
        length: tokens a row.
        fill: the token that pads rows.
        truncated: pieces that were cut.
    """
    rows = best_fit([len(ids) for ids, _ in pieces], length)
    columns = {
        "input_ids": ragged((np.concatenate([pieces[i][0] for i in row]) for row in rows), fill=fill),
        "segment_ids": ragged(np.repeat(np.arange(1, len(row) + 1), [len(pieces[i][0]) for i in row]) for row in rows),
        "labels": ragged((np.concatenate([pieces[i][1] for i in row]) for row in rows), fill=IGNORED),
    }
    return Dataset(MappingProxyType(columns), length, truncated)


def one_a_row(
    pieces: Sequence[tuple[Sequence[int], np.ndarray]], *, max_length: int, fill: int, truncated: int = 0
) -> Dataset:
    """Rows of one piece each; arguments as `packed`."""
    columns = {
        "input_ids": ragged((ids for ids, _ in pieces), fill=fill),
        "labels": ragged((labels for _, labels in pieces), fill=IGNORED),
    }
    return Dataset(MappingProxyType(columns), max_length, truncated)


def fill_rate(dataset: Dataset) -> float:
    """The share of places that hold a token when every row is padded to the dataset's max_length.

    Args:
        dataset: with rows of tokens.

    Raises:
        InputError: it has none.

    Example:
        >>> from jaxft.data.dataset import ragged
        >>> fill_rate(Dataset({"input_ids": ragged([[1, 2, 3], [4, 5, 6, 7]])}, max_length=4))
        0.875
    """
    column = dataset.columns.get("input_ids")
    if not isinstance(column, Ragged) or not len(column):
        raise InputError("fill_rate is about rows of tokens; this dataset has none")
    longest = dataset.max_length or int(column.lengths.max())
    return len(column.values) / (len(column) * longest)
