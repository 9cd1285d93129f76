"""What writers hear of the runs: everything, also where a process was killed between a row and its writers.

A note ``untold/<key>`` is there before the row and goes when every writer has its figures, so that a note beside a row
says that somebody was killed in between. Who comes next with writers tells them then; figures that a writer had already
it gets a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxft.study.claims import Claims
from jaxft.study.exclusive import sweep_drafts, write_new
from jaxft.study.store import Store

_NOTES = "untold"


class Writer(Protocol):
    """Whatever takes figures, such as the run of an experiment tracker."""

    def log(self, figures: dict[str, Any], /) -> Any:
        """Takes the figures of one point of one run."""


def add_and_tell(store: Store, writers: Sequence[Writer], row: Mapping[str, Any]) -> None:
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
        tell(writers, row)
        note.unlink(missing_ok=True)
    elif ours:
        note.unlink(missing_ok=True)


def tell_missed(store: Store, claims: Claims, writers: Sequence[Writer]) -> None:
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
            if note.exists():
                tell(writers, row)
                note.unlink(missing_ok=True)
            claims.release([note.name])


def tell(writers: Sequence[Writer], row: Mapping[str, Any]) -> None:
    """Hands the learning curve and the figures of a finished run to every writer."""
    settings = {f"config/{name}": value for name, value in row["config"].items()}
    for writer in writers:
        for point in row["curve"]:
            writer.log({"run": row["key"], **point})
        final = {f"final/{name}": value for name, value in row["metrics"].items()}
        writer.log({"run": row["key"], "step": row["curve"][-1]["step"], **settings, **final})
