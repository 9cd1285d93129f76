"""Tables of texts and labels, read from files and hub data sets and checked once, where the mistake can still be named.

CSV, TSV and JSONL are read by the standard library: nothing guesses types (the texts "1", "NA" and
"2020-01-01" stay texts) and every error can name its line. Parquet files and hub data sets are read by
Hugging Face ``datasets``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxft.data.arrow import hub_rows, is_hub_id, parquet_rows
from jaxft.errors import InputError, nearest

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
TEXT_COLUMNS = ("text", "text_pair")
_LONGEST_FIELD = 2**31 - 1


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


def read_table(source: str | Path, *, require: Sequence[str] = ("text", "label")) -> Table:
    r"""Reads and checks a table of texts.

    Texts must be strings that are not blank; a required label must be there: an empty field, ``null`` and
    NaN are not labels. Other columns are kept as they are. Text files are UTF-8; every CSV and TSV value is a string.

    Args:
        source: a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, or a hub data set written
            ``name``, ``name:config``, ``name@split`` or ``name:config@split`` (the split is ``train`` if not named).
        require: columns that must be there; ``("text",)`` reads a table to predict.

    Raises:
        InputError: the file is missing, a directory, of an unknown kind, empty, damaged or not UTF-8; a required
            column is missing; a text is blank; a required label is missing.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "reviews.csv")
        >>> _ = path.write_text('text,label\n"Good, really",1\nNA,0\n', encoding="utf-8")
        >>> table = read_table(path)
        >>> table["text"], table["label"]
        (('Good, really', 'NA'), ('1', '0'))
    """
    if is_hub_id(source, FORMATS):
        table = Table.of(hub_rows(str(source)), f"data set {source}")
    else:
        table = _read_file(Path(source))
    table.require(*require)
    if not len(table):
        raise InputError(f"{table.source} has columns {', '.join(map(repr, table.names))} but no rows")
    for name in TEXT_COLUMNS:
        if name in table:
            _check_texts(table, name)
    if "label" in require:
        _check_labels(table)
    return table


def missing(label: Any) -> bool:
    """Whether a label is absent: None, blank, or not a number in any spelling a data frame writes it.

    Example:
        >>> [missing(label) for label in (None, "", "nan", float("nan"), "NA", 0)]
        [True, True, True, True, False, False]
    """
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return True
    return isinstance(label, str) and label.strip().lower() in ("", "nan")


def _read_file(path: Path) -> Table:
    if path.is_dir():
        raise InputError(f"{path} is a directory; expected a file ending in {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path} ends in {suffix or 'nothing'}; expected a file ending in {', '.join(FORMATS)}")
    try:
        content = path.read_bytes() if suffix != ".parquet" else path.open("rb").read(1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not content.strip():
        raise InputError(f"{path} is empty; expected a table with a column 'text'")
    if suffix == ".parquet":
        return Table.of(parquet_rows(path), str(path))
    text = _decode(content, path)
    return _read_jsonl(text, path) if suffix == ".jsonl" else _read_csv(text, path, "\t" if suffix == ".tsv" else ",")


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from after a byte-order mark; bytes are counted from the start of the file.
        start = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        line = content.count(b"\n", 0, start) + 1
        raise InputError(
            f"{path} is not UTF-8: byte {start} (line {line}) is 0x{content[start]:02x}; save the file as UTF-8"
        ) from error


def _read_csv(text: str, path: Path, delimiter: str) -> Table:
    records = _csv_records(text, path, delimiter)
    header = next(records, (1, []))[1]
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path} has two columns named {name!r}; column names must differ")
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, record in records:
        if len(record) != len(header):
            raise InputError(
                f"row {len(rows) + 1} (line {line}) of {path} has {len(record)} fields, the header has {len(header)}; "
                "put a field that holds the separator or a line break in double quotes"
            )
        lines.append(line)
        rows.append(record)
    columns = {name: tuple(row[index] for row in rows) for index, name in enumerate(header)}
    return Table(MappingProxyType(columns), str(path), tuple(lines))


def _csv_records(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the records that are not blank lines, each with the line it starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit()
    line = 1
    while True:
        # The limit is the whole process's: it is raised for one record at a time, as a text has no longest length.
        csv.field_size_limit(_LONGEST_FIELD)
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{path} is damaged in the record that starts on line {line}: {error}; "
                "a quote inside a quoted field is written twice"
            ) from error
        finally:
            csv.field_size_limit(limit)
        if record is None:
            return
        if record:
            yield line, record
        line = reader.line_num + 1


def _read_jsonl(text: str, path: Path) -> Table:
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):  # str.splitlines would also cut at U+2028 in a text
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"line {number} of {path} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"line {number} of {path} is not a JSON object such as {{'text': …, 'label': …}}")
        lines.append(number)
        rows.append(row)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    columns = {name: tuple(row.get(name) for row in rows) for name in names}
    return Table(MappingProxyType(columns), str(path), tuple(lines))


def _check_texts(table: Table, name: str) -> None:
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


def _check_labels(table: Table) -> None:
    _raise_rows(table, [row for row, label in enumerate(table["label"]) if missing(label)], "'label' is missing")


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
