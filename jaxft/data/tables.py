"""Reading a table from a file or a hub data set, checked where a mistake can still be named by its line.

CSV, TSV and JSONL are read by the standard library: nothing guesses types (the texts "1", "NA" and
"2020-01-01" stay texts) and every error can name its line. Parquet files and hub data sets are read by
Hugging Face ``datasets``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxft.data.arrow import hub_rows, is_hub_id, parquet_rows
from jaxft.data.table import Table, check_labels, check_texts
from jaxft.errors import InputError

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
_LONGEST_FIELD = 2**31 - 1


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
    check_texts(table)
    if "label" in require:
        check_labels(table)
    return table


def _read_file(path: Path) -> Table:
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            raise InputError(f"{path} is a directory; expected a file ending in {', '.join(FORMATS)}")
        size = path.stat().st_size
        if suffix not in FORMATS:
            raise InputError(f"{path} is of an unknown kind; expected a file ending in {', '.join(FORMATS)}")
        text = _decode(path.read_bytes(), path) if suffix != ".parquet" else ""
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not size or (suffix != ".parquet" and not text.strip()):
        raise InputError(f"{path} is empty; expected a table with a column 'text'")
    if suffix == ".parquet":
        return Table.of(parquet_rows(path), str(path))
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
        except (ValueError, RecursionError) as error:
            raise InputError(f"line {number} of {path} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"line {number} of {path} is not a JSON object such as {{'text': …, 'label': …}}")
        lines.append(number)
        rows.append(row)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    columns = {name: tuple(row.get(name) for row in rows) for name in names}
    return Table(MappingProxyType(columns), str(path), tuple(lines))
