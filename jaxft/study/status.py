"""How far a study is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxft.study.claims import standing
from jaxft.study.keys import canonical
from jaxft.study.store import Store

STATES = ("finished", "diverged", "under way", "stale", "missing")


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Args:
        name: of the study.
        runs: every run that is planned: key, config, state (one of `STATES`) and, of those under way and stale,
            worker, host, pid and since; and the axes that mean something to it.
        axes: the values of each field that varies.
        unplanned: rows of runs that are no longer planned: of older code or data.
        damaged: what lies among the rows and holds no whole one, by its path from the study's directory.
    """

    name: str
    runs: list[dict[str, Any]]
    axes: dict[str, list[Any]]
    unplanned: int
    damaged: list[str] = field(default_factory=list)

    def counts(self, axis: str | None = None, value: Any = None) -> dict[str, int]:
        """How many runs are planned and in each state, of all or of a value of an axis that means something to them."""
        runs = [run for run in self.runs if axis is None or self._has(run, axis, value)]
        return {"planned": len(runs)} | {state: sum(run["state"] == state for run in runs) for state in STATES}

    @staticmethod
    def _has(run: Mapping[str, Any], axis: str, value: Any) -> bool:
        return axis in run["axes"] and canonical(run["config"].get(axis)) == canonical(value)


def study_status(directory: str | os.PathLike[str]) -> Status:
    """How far a study is: what has a row, who does what since when, and what nobody does.

    A row file that is half-written or lacks its metrics counts as no row: it is set aside under another name, and kept.

    Args:
        directory: of the study.

    Raises:
        InputError: the directory holds no study.
    """
    store = Store(directory)
    states = {row["key"]: row.get("status", "finished") for row in store.rows()}
    plan = store.plan
    claims = _claims(store.directory, plan.planned.keys() - states.keys())
    runs = []
    for key, config in plan.planned.items():
        done = {"state": states[key]} if key in states else None
        axes = [axis for axis in plan.axes if plan.means(axis, config)]
        runs.append({"key": key, "config": config, "axes": axes, **(done or claims.get(key) or {"state": "missing"})})
    damaged = [path.relative_to(store.directory).as_posix() for path in store.damaged()]
    return Status(plan.name, runs, plan.axes, len(states.keys() - plan.planned.keys()), damaged)


def _claims(directory: Path, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    return {
        key: {
            "state": "stale" if stale else "under way",
            "worker": claim.worker,
            "host": claim.host,
            "pid": claim.pid,
            "since": claim.since,
        }
        for key, (claim, stale) in standing(directory, keys).items()
    }
