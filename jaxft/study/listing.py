"""Which runs a grid has and how far each is, without doing any."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from jaxft.study.claims import standing
from jaxft.study.grid import Grid
from jaxft.study.groups import show
from jaxft.study.keys import canonical
from jaxft.study.plan import NAME
from jaxft.study.runner import keys_of
from jaxft.study.store import Store
from jaxft.study.structures import settings
from jaxft.study.trace import Build


def list_runs(build: Build, start: Any, grid: Grid, directory: Path, structure: Collection[str] = ()) -> None:
    """Prints a line for each run: the settings that vary, and its state.

    The state is that of the run as it would be done now: rows of other sources, params or data do not count. Where the
    directory holds a study, data and params are read to tell.

    Args:
        build: config -> Experiment.
        start: the settings that no axis names.
        grid: of settings.
        directory: of the study, there or not yet.
        structure: names of floats that ``build`` needs as plain numbers.
    """
    configs = grid.configs(start)
    runs = [settings(config) for config in configs]
    known: dict[str, str] = {}
    if (directory / NAME).is_file():
        keys = keys_of(build, configs, grid.axes, grid.masked, structure)
        known = _states(directory, {key: canonical(config) for key, config in keys.items()})
    shown = [name for name in runs[0] if len({canonical(run[name]) for run in runs}) > 1] or list(runs[0])
    lines = [[*(show(run[name]) for name in shown), known.get(canonical(run), "missing")] for run in runs]
    table = [[*shown, "state"], *lines]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _states(directory: Path, configs: dict[str, str]) -> dict[str, str]:
    """The state of each config, by its JSON."""
    rows = {row["key"]: row.get("status", "finished") for row in Store(directory).rows()}
    claims = {key: "stale" if gone else "under way" for key, (_, gone) in standing(directory, configs).items()}
    return {config: rows.get(key, claims.get(key, "missing")) for key, config in configs.items()}
