"""``jaxft study``: look after a study's directory."""

from __future__ import annotations

import json as js
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from jaxft.study.status import Status

Directory = Annotated[Path, tyro.conf.Positional]
Key = Annotated[str, tyro.conf.Positional]


def status(directory: Directory, json: bool = False) -> None:
    """Show how far a study is: runs finished, diverged, under way and by whom, abandoned, and missing.

    Args:
        directory: Directory of the study.
        json: Print one JSON object, with every planned run, in place of the tables.
    """
    from jaxft.cli.tables import print_table
    from jaxft.study.status import study_status

    found = study_status(directory)
    if json:
        whole = {"name": found.name, **found.counts(), "unplanned": found.unplanned}
        whole |= {"damaged": found.damaged, "runs": found.runs}
        print(js.dumps(whole))
        return
    total = found.counts()
    unplanned = f"; {found.unplanned} more rows, of older code or data" if found.unplanned else ""
    print_table(("runs", *total), _lines(found), caption=f"study {found.name}{unplanned}")
    if found.damaged:
        print(f"damaged or incomplete rows, which count as not run ({len(found.damaged)}): {', '.join(found.damaged)}")
    busy = [run for run in found.runs if "worker" in run]
    if busy:
        lines = [(run["worker"], run["state"], _ago(run["since"]), _config(run, found)) for run in busy]
        print_table(("worker", "state", "since", "run"), lines)


def reproduce(directory: Directory, key: Key, script: Path | None = None) -> int:
    """Do a run again with the sources that the study keeps, and say whether the bits agree.

    Ends with code 0 if they do, with 1 if not. Differences of versions, device, sources and data are named.

    Args:
        directory: Directory of the study.
        key: Key of the run, or its first digits.
        script: Use this file in place of the sources that were kept.
    """
    from jaxft.study.reproduce import reproduce as again

    found = again(directory, key, script=script)
    sentences = {
        "bits": "the bits agree: learned arrays, predictions and metrics are the same",
        "figures": "the bits differ, the figures agree within float error",
        "different": "the figures differ",
    }
    print(f"{found.key}: {sentences[found.verdict]}")
    if found.largest is not None:
        largest = found.largest
        print(f"largest difference: {largest.name}, recorded {largest.recorded}, now {largest.now}")
    for sentence in found.surroundings:
        print(f"not as it was: {sentence}")
    return 0 if found.verdict == "bits" else 1


def _lines(found: Status) -> Iterator[list[str]]:
    """A row for each value of each axis, and one of all."""
    for axis, values in found.axes.items():
        for value in values if len(values) > 1 else ():
            yield [f"{axis}={js.dumps(value)}", *map(str, found.counts(axis, value).values())]
    yield ["all", *map(str, found.counts().values())]


def _config(run: dict[str, dict[str, object]], found: Status) -> str:
    shown = {name: value for name, value in run["config"].items() if len(found.axes.get(name, ())) > 1}
    return " ".join(f"{name}={js.dumps(value)}" for name, value in shown.items()) or str(run["key"])


def _ago(since: str) -> str:
    """How long ago, in the largest unit that fits."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
    except ValueError:
        return "unknown"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
