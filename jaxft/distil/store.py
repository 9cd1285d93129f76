"""Arrays in files that are filled part by part, so that what was killed goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.files import Layout, atomic_file, sha256

_PARTS = 16
"""Batches between two notes of how far it has come."""

Fill = Callable[[int, int, int], Mapping[str, tuple[int, np.ndarray]]]
"""``fill(start, stop, batch_size)``: of each column the place of the rows' first entry, and their entries."""


class Store:
    """A directory of arrays with a note of what they are of, how far they are filled, and their digests when they are.

    Args:
        directory: new, empty, or one that such a store left.
        cause: what the arrays depend on.
        layouts: of the arrays, by name.

    Raises:
        InputError: the directory holds something else, or arrays of another cause.
    """

    def __init__(self, directory: Path, cause: Mapping[str, str], layouts: Mapping[str, Layout]):
        self._room, self._cause, self._layouts = directory, dict(cause), dict(layouts)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {directory} for what a teacher says: {error}") from error
        self._note = directory / "note.json"
        if any(directory.iterdir()) and not (self._note.exists() or (directory / "lock").exists()):
            raise InputError(f"{directory} holds other files: name a new or empty folder for what a teacher says")

    def filled(self, rows: int, batch_size: int, fill: Fill) -> dict[str, np.ndarray]:
        """The arrays, mapped for reading, after all rows that are missing were computed.

        Args:
            rows: how many.
            batch_size: how many at once.
            fill: computes some.

        Raises:
            InputError: the directory is of another cause, or cannot be written to.
        """
        from filelock import FileLock

        try:
            with FileLock(self._room / "lock"):
                done = self._done(rows)
                if done < rows:
                    self._go_on(done, rows, batch_size, fill)
        except PermissionError as error:
            raise InputError(f"cannot write to {self._room}: choose another folder ({error})") from error
        return {name: self._map(name, "r") for name in self._layouts}

    def _done(self, rows: int) -> int:
        """Rows that are in the files; 0 begins anew where these are not whole."""
        if not self._note.exists():
            return 0
        try:
            note = json.loads(self._note.read_text())
            cause, done, digests = note["cause"], int(note["rows"]), note["digests"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._note} is damaged: delete the folder, and it is computed again") from error
        if other := [name for name in self._cause if cause.get(name) != self._cause[name]]:
            raise InputError(
                f"{self._room} holds what was said of another {' and another '.join(other)}: "
                f"{cause.get(other[0])!r} there, {self._cause[other[0]]!r} here. Name another folder, or delete it"
            )
        whole = all(self._file(name).exists() for name in self._layouts) and all(
            self._file(name).stat().st_size == layout.bytes for name, layout in self._layouts.items()
        )
        if not whole or (done == rows and digests != self._digests()):
            return 0
        return done

    def _go_on(self, done: int, rows: int, batch_size: int, fill: Fill) -> None:
        new = done == 0
        arrays = {name: self._map(name, "w+" if new else "r+") for name in self._layouts}
        if new:
            self._write(0, {})
        starts = range(done, rows, batch_size)
        for count, start in enumerate(starts, 1):
            stop = min(start + batch_size, rows)
            for name, (place, values) in fill(start, stop, batch_size).items():
                if arrays[name].size:
                    arrays[name][place : place + len(values)] = values
            if count % _PARTS == 0 and stop < rows:
                self._flush(arrays)
                self._write(stop, {})
        self._flush(arrays)
        self._write(rows, self._digests())

    def _map(self, name: str, mode: Any) -> np.ndarray:
        layout = self._layouts[name]
        if not layout.bytes:  # nothing can be mapped of an empty file
            self._file(name).touch()
            return np.zeros(layout.shape, layout.dtype)
        return np.memmap(self._file(name), layout.dtype, mode, 0, layout.shape)

    def _file(self, name: str) -> Path:
        return self._room / f"{name.replace('/', '_')}.bin"

    @staticmethod
    def _flush(arrays: Mapping[str, np.ndarray]) -> None:
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()

    def _write(self, rows: int, digests: Mapping[str, str]) -> None:
        with atomic_file(self._note) as file:
            file.write_text(json.dumps({"cause": self._cause, "rows": rows, "digests": digests}, indent=1) + "\n")

    def _digests(self) -> dict[str, str]:
        return {name: sha256(self._file(name)) for name in sorted(self._layouts)}
