"""A table of texts and labels in memory, and the checks whose messages name a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any

from jaxft.errors import InputError, nearest

TEXT_COLUMNS = ("text", "text_pair")


@dataclass(frozen=True)
class Table:
    """Named columns of equal length, and where each row came from.

    Attributes:
        columns: name -> tuple of values, one a row.
        source: the file or data set, for messages.
        lines: the line of the file each row starts on, where the source has lines.

    Example:
        >>> table = Table.of({"text": ["good", "bad"], "label": [1, 0]})
        >>> len(table), table["text"], table.names
        (2, ('good', 'bad'), ('text', 'label'))
        >>> table.take([1])["text"]
        ('bad',)
    """

    columns: Mapping[str, tuple[Any, ...]]
    source: str = "the table"
    lines: tuple[int, ...] | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]], source: str = "the table") -> Table:
        """Builds a table from columns.

        Args:
            columns: name -> values, one a row.
            source: what messages call the table.

        Raises:
            InputError: the columns differ in length.
        """
        fixed = {name: tuple(values) for name, values in columns.items()}
        lengths = {name: len(values) for name, values in fixed.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"the columns of {source} must have one length, but they have {lengths}")
        return cls(MappingProxyType(fixed), source)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        self.require(name)
        return self.columns[name]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(self.columns)

    def get(self, name: str) -> tuple[Any, ...] | None:
        """A column, or None if there is none of that name."""
        return self.columns.get(name)

    def require(self, *names: str) -> None:
        """Raises an InputError that names a missing column, the columns there are and the nearest of them."""
        for name in names:
            if name not in self.columns:
                raise InputError(
                    f"{self.source} has no column {name!r}; its columns are {', '.join(map(repr, self.names))} "
                    f"({nearest(name, map(str, self.names))})"
                )

    def where(self, row: int) -> str:
        """Names a row (counted from 0 here, from 1 in the message) for the end of a message."""
        line = f" (line {self.lines[row]})" if self.lines else ""
        return f"row {row + 1}{line} of {self.source}"

    def take(self, rows: Sequence[int]) -> Table:
        """The table of the given rows, in the given order."""
        columns = {name: tuple(values[row] for row in rows) for name, values in self.columns.items()}
        lines = tuple(self.lines[row] for row in rows) if self.lines else None
        return Table(MappingProxyType(columns), self.source, lines)

    def drop(self, *names: str) -> Table:
        """The table without some columns, such as the labels of a target domain."""
        self.require(*names)
        kept = {name: values for name, values in self.columns.items() if name not in names}
        return Table(MappingProxyType(kept), self.source, self.lines)


def check_texts(table: Table) -> None:
    """Raises an InputError when a table has no rows, or a text that is blank or no text, and names the row.

    Example:
        >>> check_texts(Table.of({"text": ["good", " "]}))
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: 'text' is empty in row 2 of the table; fill or remove such rows
    """
    if not len(table):
        raise InputError(f"{table.source} has columns {', '.join(map(repr, table.names))} but no rows")
    for name in TEXT_COLUMNS:
        if name in table:
            _check_text_column(table, name)


def check_labels(table: Table) -> None:
    """Raises an InputError when a label is missing, or is neither text nor a number, and names the row.

    ``None``, a blank text and NaN (also as the text "nan", which data frames write) are missing labels; "NA" is a
    label like any other.

    Example:
        >>> check_labels(Table.of({"label": ["NA", float("nan")]}))
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: 'label' is missing in row 2 of the table; fill or remove such rows
    """
    _raise_rows(table, [row for row, label in enumerate(table["label"]) if _missing(label)], "'label' is missing")
    for row, label in enumerate(table["label"]):
        if not isinstance(label, str | Real):
            raise InputError(f"a label must be text or a number, but {table.where(row)} has {label!r}")
        if isinstance(label, str) and not _encodes(label):
            raise InputError(f"'label' in {table.where(row)} holds half of a surrogate pair, which is no character")


def _check_text_column(table: Table, name: str) -> None:
    blank = []
    for row, text in enumerate(table[name]):
        if text is None or (isinstance(text, str) and not text.strip()):
            blank.append(row)
        elif not isinstance(text, str):
            raise InputError(
                f"{name!r} must be text, but {table.where(row)} holds {text!r} ({type(text).__name__}); "
                "write it as a string"
            )
        elif not _encodes(text):
            raise InputError(f"{name!r} in {table.where(row)} holds half of a surrogate pair, which is no character")
    _raise_rows(table, blank, f"{name!r} is empty")


def _missing(label: Any) -> bool:
    if isinstance(label, str):
        return label.strip().lower() in ("", "nan")
    return label is None or (isinstance(label, Real) and math.isnan(label))


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _raise_rows(table: Table, rows: Sequence[int], what: str) -> None:
    if rows:
        others = f" and in {len(rows) - 1} more rows" if len(rows) > 1 else ""
        raise InputError(f"{what} in {table.where(rows[0])}{others}; fill or remove such rows")
