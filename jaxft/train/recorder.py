"""Metrics as lines of JSON that a resumed run continues exactly."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.files import atomic_file


class Recorder:
    """Appends one JSON object a line to a file and keeps the same lines as ``history``.

    Numbers that are not finite are written as null, which JSON has and NaN is not.

    Args:
        path: the file, continued if it exists; None keeps the history in memory only.

    Example:
        >>> recorder = Recorder(None)
        >>> recorder.write(1, {"loss": 0.5})
        >>> recorder.history
        [{'step': 1, 'loss': 0.5}]
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.history: list[dict[str, Any]] = []
        self._file = None if path is None else open(path, "a", encoding="utf-8")

    def rewind(self, step: int) -> None:
        """Keeps the lines up to a step, in one atomic replacement; a half-written last line goes with the rest."""
        self.history = []
        if self.path is None or self._file is None:
            return
        self._file.close()
        self.history = [line for line in map(_parse, _lines(self.path)) if line is not None and line["step"] <= step]
        with atomic_file(self.path) as temporary:
            temporary.write_text("".join(map(_text, self.history)), encoding="utf-8")
        self._file = open(self.path, "a", encoding="utf-8")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds a line."""
        line = {"step": step, **{name: value if math.isfinite(value) else None for name, value in metrics.items()}}
        self.history.append(line)
        if self._file is not None:
            self._file.write(_text(line))
            self._file.flush()

    def sync(self) -> None:
        """Forces the lines to disk, so that no checkpoint is newer than the lines before it."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line) + "\n"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None
