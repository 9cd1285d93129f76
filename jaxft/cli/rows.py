"""Rows of results as a CSV or JSONL file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxft.errors import InputError
from jaxft.files import atomic_file

_DECIMALS = 6


def check_suffix(out: Path, suffixes: Sequence[str]) -> None:
    """Refuses a file of another kind.

    Raises:
        InputError: names the kinds there are.

    Example:
        >>> check_suffix(Path("tags.csv"), (".jsonl",))
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: results are written as JSONL, but tags.csv does not end in .jsonl: name another file
    """
    if out.suffix.lower() not in suffixes:
        kinds = " or ".join(suffix[1:].upper() for suffix in suffixes)
        raise InputError(
            f"results are written as {kinds}, but {out} does not end in {' or '.join(suffixes)}: name another file"
        )


def write_rows(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows, all or nothing; numbers have six decimals.

    Args:
        out: a ``.csv`` or ``.jsonl`` file.
        rows: at least one, all with the same keys.
    """
    with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if out.suffix.lower() == ".jsonl":
            for row in rows:
                rounded = {name: round(v, _DECIMALS) if isinstance(v, float) else v for name, v in row.items()}
                file.write(json.dumps(rounded, ensure_ascii=False) + "\n")
            return
        writer = csv.writer(file, lineterminator="\n")
        for number, row in enumerate(rows):
            if not number:
                writer.writerow(row)
            writer.writerow(f"{v:.{_DECIMALS}f}" if isinstance(v, float) else v for v in row.values())
