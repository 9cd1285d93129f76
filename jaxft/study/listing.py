"""Which runs a grid has and how far each is, without building any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxft.study.groups import show
from jaxft.study.keys import canonical
from jaxft.study.plan import NAME
from jaxft.study.revision import revision
from jaxft.study.status import study_status
from jaxft.study.store import read_rows
from jaxft.study.structures import settings
from jaxft.study.trace import Build


def list_runs(build: Build, configs: Sequence[Any], directory: Path) -> None:
    """Prints a line for each run: the settings that vary, and its state.

    Rows of other sources than today's do not count, for those runs would be done anew.

    Args:
        build: config -> Experiment.
        configs: of the runs.
        directory: of the study, there or not yet.
    """
    runs = [settings(config) for config in configs]
    known = _states(revision(build).code, directory) if (directory / NAME).is_file() else {}
    shown = [name for name in runs[0] if len({canonical(run[name]) for run in runs}) > 1] or list(runs[0])
    lines = [[*(show(run[name]) for name in shown), known.get(canonical(run), "missing")] for run in runs]
    table = [[*shown, "state"], *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _states(code: str, directory: Path) -> Mapping[str, str]:
    states = {canonical(run["config"]): _unfinished(run["state"]) for run in study_status(directory).runs}
    for row in read_rows(directory, flat=False):
        if (row.get("provenance") or {}).get("code") == code:
            states[canonical(row["config"])] = row.get("status", "finished")
    return states


def _unfinished(state: str) -> str:
    return state if state in ("under way", "stale") else "missing"
