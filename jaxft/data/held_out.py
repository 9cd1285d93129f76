"""A training and a test table, and the rule that decides which row goes where."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxft.data.table import Table

_FOLDS = 5


class TrainTest(NamedTuple):
    """The rows of a data set.

    Attributes:
        train: rows to learn from.
        test: rows to measure on.
    """

    train: Table
    test: Table


def is_held_out(key: str) -> bool:
    """Whether rows with this key are test rows: the sha256 of the key, as an integer, is a multiple of five.

    Rows that must stay together, such as those of one document, share a key.

    Example:
        >>> [key for key in "abcdef" if is_held_out(key)]
        ['b', 'd', 'e']
    """
    return int(hashlib.sha256(key.encode("utf-8")).hexdigest(), 16) % _FOLDS == 0


def split_by_key(table: Table, keys: Sequence[str]) -> TrainTest:
    """The table cut in two by `is_held_out`, about four to one; both keep the table's order.

    Args:
        table: the rows.
        keys: one for each row.

    Example:
        >>> split = split_by_key(Table.of({"text": ["a", "b"]}), ["a", "b"])
        >>> split.train["text"], split.test["text"]
        (('a',), ('b',))
    """
    held_out = [is_held_out(key) for key in keys]
    return TrainTest(
        table.take([row for row, out in enumerate(held_out) if not out]),
        table.take([row for row, out in enumerate(held_out) if out]),
    )
