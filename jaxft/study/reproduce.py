"""Does a run of a study again, and says whether the bits agree."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jaxft
from jaxft.errors import InputError, nearest
from jaxft.study.store import Store

TOLERANCE = 1e-4
"""How far figures may be apart, relative to those above 1, to differ by float error alone."""
_SURROUNDINGS = ("jaxft", "backend", "device", "machine", "cpus", "flags")


class Apart(NamedTuple):
    """A figure that came out otherwise: its name, as it was recorded, as it is now."""

    name: str
    recorded: float | None
    now: float | None

    @property
    def distance(self) -> float:
        """The difference, relative to the recorded figure where that is above 1; infinite where one is missing."""
        if self.recorded is None or self.now is None:
            return 0.0 if self.recorded is self.now else math.inf
        return abs(self.now - self.recorded) / max(1.0, abs(self.recorded))


class Reproduction(NamedTuple):
    """A run done again.

    Attributes:
        key: of the run.
        verdict: "bits" when all learned arrays, predictions and metrics are the same bits; "figures" when the figures
            agree within float error; "different" otherwise.
        largest: the figure that is furthest apart; None if none is.
        surroundings: what is not as it was, a sentence each.
        row: of the run done now.
    """

    key: str
    verdict: Literal["bits", "figures", "different"]
    largest: Apart | None
    surroundings: tuple[str, ...]
    row: dict[str, Any]


def reproduce(
    directory: str | os.PathLike[str], key: str, *, script: str | os.PathLike[str] | None = None
) -> Reproduction:
    """Does a run again, in a process of its own, with the sources that the study keeps.

    The program has the shape that the row records, with the same settings traced and as many runs side by side, so
    that on the same versions and the same kind of device the bits agree. What is read beside the sources, such as files
    of data, must be there still; relative names begin in the working directory.

    Args:
        directory: of the study.
        key: of the run, or its first digits.
        script: use this file in place of the kept sources.

    Raises:
        InputError: there is no such run, its sources are not there, or they do not define what it was built with.
    """
    row = find_row(directory, key)
    if "<" in row["provenance"]["build"]:
        raise InputError(
            f"the run was built by {row['provenance']['build']}, which cannot be found again: only a function at the "
            "top of a module can; define build there and run the study anew"
        )
    root = kept = Path(directory).absolute() / "code" / row["provenance"]["code"][:16]
    file = root / row["provenance"]["script"]
    if script is not None:
        file = Path(script).expanduser().absolute()
        root = _root(file, row["provenance"]["script"])
    if not file.is_file():
        raise InputError(f"there is no file {file}: name the script of the study by --script")
    again = _in_own_process({"row": row, "script": str(file), "root": str(root)})
    same = row["provenance"]["bits"] == again["provenance"]["bits"]
    largest = max(_compared(row, again), key=lambda apart: apart.distance, default=None)
    distance = 0.0 if largest is None else largest.distance
    verdict: Literal["bits", "figures", "different"] = "different"
    if same or distance <= TOLERANCE:
        verdict = "bits" if same else "figures"
    differing = (*_other_sources(kept, root), *_differing(row, again))
    return Reproduction(row["key"], verdict, largest if distance else None, differing, again)


def find_row(directory: str | os.PathLike[str], key: str) -> dict[str, Any]:
    """The row of a run.

    Args:
        directory: of the study.
        key: of the run, or its first digits.

    Raises:
        InputError: no run, or more than one, has such a key.
    """
    rows = {row["key"]: row for row in Store(directory).rows()}
    found = [name for name in rows if name.startswith(key)]
    if not key or not found:
        raise InputError(f"no run of {directory} has a key that begins with {key!r}; {nearest(key, rows)}")
    if len(found) > 1:
        raise InputError(f"{len(found)} runs of {directory} have keys that begin with {key!r}: give more digits")
    row = rows[found[0]]
    if lacking := [n for n in ("code", "script", "build", "config", "bits") if n not in row.get("provenance", {})]:
        raise InputError(f"the row {found[0]} does not say its {' and '.join(lacking)}, so it cannot be done again")
    return row


def _root(file: Path, recorded: str) -> Path:
    """Where the imports of a script start, if it lies as the recorded one did."""
    above = Path(recorded).parts[:-1]
    return file.parents[len(above)] if file.parts[-len(above) - 1 : -1] == above else file.parent


def _in_own_process(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of ``jaxft.study.rerun``; what the script prints goes to stderr."""
    paths = [str(Path(jaxft.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as room:
        asked, answer = Path(room) / "request.json", Path(room) / "answer.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "jaxft.study.rerun", str(asked), str(answer)]
        done = subprocess.run(command, env=environment, stdout=2, check=False)
        if done.returncode or not answer.is_file():
            raise InputError(
                f"the run could not be done again with {request['script']}: it ended with the error above; "
                "--script names another file"
            )
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "wrong" in found:
        raise InputError(found["wrong"])
    return dict(found["row"])


def _compared(row: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[Apart]:
    """Every figure of a run, recorded and now."""
    for part, called in (("metrics", "test"), ("validation", "validation")):
        before, now = row.get(part) or {}, again.get(part) or {}
        for name in before.keys() | now.keys():
            yield Apart(f"{called} {name}", before.get(name), now.get(name))
    after = {point["step"]: point for point in again["curve"]}
    for point in row["curve"]:
        now = after.get(point["step"], {})
        for name in point.keys() - {"step"}:
            yield Apart(f"{name} at step {point['step']}", point[name], now.get(name))


def _other_sources(kept: Path, root: Path) -> Iterator[str]:
    if not kept.is_dir():
        yield "the sources of the script are not known: the study does not keep them"
    for path in sorted(kept.rglob("*.py")):
        now = root / path.relative_to(kept)
        if not now.is_file() or now.read_bytes() != path.read_bytes():
            yield f"{path.relative_to(kept)}: another than that which the study keeps"


def _differing(row: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    then, now = row["provenance"], again["provenance"]
    named = {"base": "the base parameters", "data": "the data"}
    for name in ("base", "data"):
        if then.get(name) != now.get(name):
            yield f"{named[name]} are others: {_short(then.get(name))} then, {_short(now.get(name))} now"
    for name in _SURROUNDINGS:
        if name in then and then[name] != now.get(name):
            what = "the sources of jaxft" if name == "jaxft" else name
            yield f"{what}: {_short(then[name])} then, {_short(now.get(name))} now"
    versions, today = then.get("versions", {}), now.get("versions", {})
    for name in sorted(versions.keys() | today.keys()):
        if versions.get(name) != today.get(name):
            yield f"{name}: {versions.get(name, 'none')} then, {today.get(name, 'none')} now"
    for name in ("lanes", "prefix"):
        if row["program"].get(name) != again["program"].get(name):
            yield f"{name} of the program: {row['program'].get(name)} then, {again['program'].get(name)} now"


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, Mapping) else str(value)
    return text[:12] if len(text) == 64 else text
