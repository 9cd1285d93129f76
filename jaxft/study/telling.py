"""What writers hear of the runs: everything, also where a process was killed between a row and its writers.

A note ``untold/<key>`` is there before the row and goes when every writer has its figures, so that a note beside a row
says that somebody was killed in between, or that a writer failed. Who comes next with writers tells them then; figures
that a writer had already it gets a second time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxft.study.claims import Claims
from jaxft.study.exclusive import sweep_drafts, write_new
from jaxft.study.store import Store

logger = logging.getLogger(__name__)

_NOTES = "untold"


class Writer(Protocol):
    """Whatever takes figures, such as the run of an experiment tracker."""

    def log(self, figures: dict[str, Any], /) -> Any:
        """Takes the figures of one point of one run."""


class Lasting:
    """A writer that may fail: the study goes on, and its first failure is said once.

    Args:
        writer: of figures.
    """

    def __init__(self, writer: Writer):
        self._writer = writer
        self._failed = False

    def log(self, figures: dict[str, Any]) -> bool:
        """Hands on the figures of one point; False if the writer failed."""
        try:
            self._writer.log(figures)
        except Exception as error:
            if not self._failed:
                name, kind = type(self._writer).__name__, type(error).__name__
                logger.warning(
                    "a writer, %s, failed (%s: %s); the study goes on, and tells it of the run later", name, kind, error
                )
            self._failed = True
            return False
        return True


def add_and_tell(store: Store, writers: Sequence[Lasting], row: Mapping[str, Any]) -> None:
    """Adds the row of a run; the writers hear of it unless somebody else's row of that run is there.

    Args:
        store: of the study.
        writers: each receives the figures of the run.
        row: of the run.
    """
    if not writers:
        store.add(row)
        return
    notes = store.directory / _NOTES
    notes.mkdir(exist_ok=True)
    note = notes / row["key"]
    ours = write_new(note, "")
    if store.add(row):
        if tell(writers, row):
            note.unlink(missing_ok=True)
    elif ours:
        note.unlink(missing_ok=True)


def tell_missed(store: Store, claims: Claims, writers: Sequence[Lasting]) -> None:
    """Hands the figures of rows to the writers that were not told of them, because a process was killed.

    Args:
        store: of the study.
        claims: of this process; a row that another one is telling of is left to it.
        writers: each receives the figures.
    """
    notes = store.directory / _NOTES
    if not writers or not notes.is_dir():
        return
    sweep_drafts(notes, claims.stale)
    for note in sorted(notes.iterdir()):
        row = store.row(note.name)
        if row is not None and claims.take([note.name]):
            if note.exists() and tell(writers, row):
                note.unlink(missing_ok=True)
            claims.release([note.name])


def tell(writers: Sequence[Lasting], row: Mapping[str, Any]) -> bool:
    """Hands the learning curve and the figures of a finished run to every writer; whether each took all of them."""
    settings = {f"config/{name}": value for name, value in row["config"].items()}
    final = {f"final/{name}": value for name, value in row["metrics"].items()}
    points = [*row["curve"], {"step": row["curve"][-1]["step"], **settings, **final}]
    taken = [all(writer.log({"run": row["key"], **point}) for point in points) for writer in writers]
    return all(taken)
