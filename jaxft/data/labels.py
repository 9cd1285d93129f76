"""Labels as numbers: a vocabulary learned from the training rows, or floats for regression."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np

from jaxft.data.table import Table, check_labels
from jaxft.errors import InputError, nearest

_WHOLE = re.compile(r"(-?\d+)\.0*")  # how a column of integers is written once a data frame made it floats
_SHOWN = 20


class Vocabulary(NamedTuple):
    """The labels a classifier knows; a label's id is its place.

    Attributes:
        names: the labels as strings, in the order of their ids.
    """

    names: tuple[str, ...]

    def ids(self, table: Table) -> np.ndarray:
        """The id of every row's label, ``[rows]`` int32.

        Args:
            table: a table with a column ``label``.

        Raises:
            InputError: a label is missing, or was not among the training labels.
        """
        known = {name: index for index, name in enumerate(self.names)}
        labels = _names(table)
        for row, label in enumerate(labels):
            if label not in known:
                shown = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
                raise InputError(
                    f"the label {label!r} in {table.where(row)} was not seen in training; "
                    f"the known labels are {shown} ({nearest(label, self.names)})"
                )
        return np.array([known[label] for label in labels], np.int32)


def vocabulary(table: Table) -> Vocabulary:
    """The sorted labels of a training table; labels that are all numbers are sorted as numbers.

    ``1``, ``"1"`` and ``1.0`` are one label, so that a CSV and a Parquet file of the same rows agree.

    Args:
        table: the training table, with a column ``label``.

    Raises:
        InputError: a label is missing, or all rows have the same one.

    Example:
        >>> from jaxft.data import Table
        >>> train = Table.of({"text": ["a", "b", "c"], "label": ["10", "9", "10"]})
        >>> vocabulary(train)
        Vocabulary(names=('9', '10'))
        >>> vocabulary(train).ids(train).tolist()
        [1, 0, 1]
    """
    names = set(_names(table))
    if len(names) < 2:
        raise InputError(f"every row of {table.source} has the label {next(iter(names))!r}; a classifier needs two")
    numbers = {name: _number(name) for name in names}
    if any(number is None for number in numbers.values()):
        return Vocabulary(tuple(sorted(names)))
    return Vocabulary(tuple(sorted(names, key=lambda name: (numbers[name], name))))


def float_labels(table: Table) -> np.ndarray:
    """The labels of a regression, ``[rows]`` float32.

    Args:
        table: a table with a column ``label``.

    Raises:
        InputError: a label is missing or not a finite number.

    Example:
        >>> from jaxft.data import Table
        >>> float_labels(Table.of({"text": ["a", "b"], "label": ["1.5", "-2"]})).tolist()
        [1.5, -2.0]
    """
    numbers = [_number(name) for name in _names(table)]
    for row, number in enumerate(numbers):
        if number is None:
            raise InputError(
                f"a regression needs finite numbers as labels, but {table.where(row)} has {table['label'][row]!r}"
            )
    return np.array(numbers, np.float32)


def _names(table: Table) -> list[str]:
    check_labels(table)
    return [_name(label) for label in table["label"]]


def _name(label: Any) -> str:
    text = str(label).strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _number(name: str) -> float | None:
    try:
        number = float(name)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
