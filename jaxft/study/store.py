"""The rows of a study: one file a run, written once, readable by anything that reads JSON."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from jaxft.errors import InputError
from jaxft.files import atomic_file
from jaxft.study.exclusive import remedy, sweep_drafts, sync_directory, write_new
from jaxft.study.plan import NAME, Plan, check_new, check_same, plan_of, read_plan

logger = logging.getLogger(__name__)

_SECONDS_TO_WRITE = 3600.0


class Store:
    """The directory of a study that exists. Processes and machines may share it.

    A row is ``rows/<key>.json``, on disk before `add` returns, never changed and never overwritten.

    Args:
        directory: of the study; `Store.open` makes one.

    Raises:
        InputError: the directory holds no study.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "study"
        >>> row = {"key": "3f9c", "config": {"lr": 0.1}, "metrics": {"accuracy": 0.9}, "status": "finished"}
        >>> store = Store.open(place, name="digits", fields=["lr"], axes={"lr": [0.1]}, planned={"3f9c": row["config"]})
        >>> store.add(row), store.add(row)
        (True, False)
        >>> Store(place).finished()
        {'3f9c'}
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)
        self.plan: Plan = read_plan(self.directory)
        self._rows = self.directory / "rows"
        self._whole: set[str] = set()

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        name: str,
        fields: Sequence[str],
        axes: Mapping[str, Sequence[Any]],
        planned: Mapping[str, Mapping[str, Any]],
        parts: Sequence[Mapping[str, Sequence[Any]]] = (),
    ) -> Self:
        """Makes the directory of a study, or checks that it is this study's and adds to its plan.

        Args:
            directory: new, empty, or of the same study.
            name: of the study.
            fields: names of the fields of a run.
            axes: the values of each field that varies; added to those that are there.
            planned: the config of each run that is wanted, by its key; added likewise, except that a config which
                had another key, of older code or data, is wanted under the new one only.
            parts: the axes of each part of the grid; added likewise. Without any, every axis means something to every
                run.

        Raises:
            InputError: the directory is another study's, holds other files, or cannot be written to.
        """
        place, new = Path(directory), plan_of(name, fields, axes, planned, parts)
        try:
            if not (place / NAME).is_file():
                check_new(place)
            (place / "rows").mkdir(parents=True, exist_ok=True)
            sweep_drafts(place / "rows", _SECONDS_TO_WRITE)
            with FileLock(place / ".study.lock"):
                _write_plan(place, new)
        except OSError as error:
            raise InputError(f"cannot write {place} ({error.strerror}): {remedy(error)}") from error
        return cls(place)

    def add(self, row: Mapping[str, Any]) -> bool:
        """Writes the row of a run; numbers that are not finite become null.

        Returns:
            False if the run already has a row, which stays as it is.

        Raises:
            InputError: the row lacks its key, config or metrics, holds what JSON cannot, or cannot be written.
        """
        if not isinstance(row.get("key"), str) or not is_whole(row):
            raise InputError('a row has a "key" of text, the "config" of its run and its "metrics", numbers by name')
        try:
            text = json.dumps(_finite(row), allow_nan=False) + "\n"
        except TypeError as error:
            raise InputError(f"the row of run {row['key']} cannot be written as JSON ({error})") from error
        path = self._rows / f"{row['key']}.json"
        self._rows.mkdir(exist_ok=True)
        made = write_new(path, text) or (_read_row(path) is None and write_new(path, text))
        self._whole.add(row["key"])
        return made

    def finished(self) -> set[str]:
        """Keys of the runs that have a row; each file is read once."""
        found = {path.stem: path for path in self._rows.glob("*.json")}
        self._whole &= found.keys()
        self._whole |= {key for key in found.keys() - self._whole if _read_row(found[key]) is not None}
        return set(self._whole)

    def row(self, key: str) -> dict[str, Any] | None:
        """The row of a run; None if there is none."""
        return _read_row(self._rows / f"{key}.json")

    @property
    def known(self) -> Set[str]:
        """Keys of the runs that `has` and `finished` found a row of: no file is looked at."""
        return self._whole

    def has(self, key: str) -> bool:
        """Whether a run has a row, without looking at any other file."""
        if key not in self._whole and self.row(key) is not None:
            self._whole.add(key)
        return key in self._whole

    def damaged(self) -> list[Path]:
        """Files and directories under the names of rows that hold no whole row, and those set aside for it before."""
        standing = [path for path in self._rows.glob("*.json") if _parse(path) is None]
        return sorted([*standing, *self._rows.glob("*.damaged*")])

    def rows(self) -> list[dict[str, Any]]:
        """Every row, in the order of the configs, field by field, then of the keys."""
        rows = [row for path in self._rows.glob("*.json") if (row := _read_row(path)) is not None]
        return sorted(rows, key=lambda row: ([_rank(row["config"].get(name)) for name in self.plan.fields], row["key"]))


def read_rows(directory: str | os.PathLike[str], *, flat: bool = True) -> list[dict[str, Any]]:
    """The rows of a study, for ``pandas.DataFrame(read_rows(directory))``.

    Args:
        directory: of the study.
        flat: one column a value, such as ``config.lr`` and ``metrics.accuracy``, and ``planned``, which is False where
            code, params or data have changed since; otherwise as they were written.

    Raises:
        InputError: the directory holds no study.
    """
    store = Store(directory)
    rows, planned = store.rows(), store.plan.planned
    if older := sum(row["key"] not in planned for row in rows):
        logger.warning(
            "%d of the %d rows in %s are of runs that are no longer planned, of older code, params or data: 'planned' "
            "tells them apart in flat rows; delete their files where they should not count",
            *(older, len(rows), directory),
        )
    return [{**dict(_flattened(row)), "planned": row["key"] in planned} for row in rows] if flat else rows


def _write_plan(place: Path, new: Plan) -> None:
    plan = new
    if (place / NAME).is_file():
        old = read_plan(place)
        check_same(place, old, new)
        plan = old.grown(new)
        if plan == old:
            return
    with atomic_file(place / NAME) as temporary:
        temporary.write_text(json.dumps(asdict(plan), indent=1) + "\n", encoding="utf-8")
    sync_directory(place)


def _read_row(path: Path) -> dict[str, Any] | None:
    """A row; None, and the file is set aside, if it is damaged."""
    try:
        row = _parse(path)
    except FileNotFoundError:  # another process set it aside
        return None
    if row is None:
        _set_aside(path)
    return row


def _parse(path: Path, name: str | None = None) -> dict[str, Any] | None:
    try:
        row = json.loads(path.read_bytes())
    except (ValueError, RecursionError, IsADirectoryError):
        return None
    named = isinstance(row, dict) and f"{row.get('key')}.json" == (name or path.name)
    return row if named and is_whole(row) else None


def is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a row has what every reader of rows counts on: its config and metrics, and no other part of another kind.

    Example:
        >>> is_whole({"key": "3f9c", "config": {"lr": 0.1}, "metrics": {"accuracy": None}, "status": "diverged"})
        True
        >>> is_whole({"key": "3f9c", "config": {"lr": 0.1}})
        False
    """
    parts = [row.get(name) for name in ("validation", "cost", "program", "provenance")]
    return (
        isinstance(row.get("config"), Mapping)
        and isinstance(row.get("metrics"), Mapping)
        and all(part is None or isinstance(part, Mapping) for part in parts)
        and all(_is_figure(value) for part in (row["metrics"], parts[0] or {}) for value in part.values())
        and isinstance(row.get("curve") or [], list | tuple)
        and all(isinstance(point, Mapping) and "step" in point for point in row.get("curve") or ())
        and isinstance(row.get("status", ""), str)
    )


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _set_aside(path: Path) -> None:
    """Gives a damaged row a name of its own beside the others; what was set aside before stays."""
    aside = path.with_name(f".{secrets.token_hex(8)}.aside")
    try:
        os.rename(path, aside)
        if _parse(aside, path.name):  # another process was faster, and a whole row has come since
            os.link(aside, path)
            aside.unlink()
            return
        kept = path.with_suffix(".damaged")
        if kept.exists():
            kept = path.with_suffix(f".damaged-{secrets.token_hex(4)}")
        os.rename(aside, kept)
    except FileNotFoundError:
        return
    except OSError as error:
        reason = error.strerror
        logger.warning("%s is damaged or incomplete and counts as not run; it stays where it is (%s)", path, reason)
        return
    logger.warning("%s is damaged or incomplete: it is now %s and counts as not run", path, kept.name)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers by their value, then texts, then lists: values that do not compare are kept apart."""
    if value is None:
        return 0, 0
    if isinstance(value, int | float):
        return 1, value
    return (2, value) if isinstance(value, str) else (3, json.dumps(value))


def _flattened(row: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    columns: list[tuple[str, Any]] = []
    for name, value in row.items():
        inner = isinstance(value, dict)
        columns += _flattened(value, f"{above}{name}.") if inner else [(above + name, value)]
    return columns
