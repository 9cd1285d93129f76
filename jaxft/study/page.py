"""One HTML file to browse a study in: a table, groups over seeds, and learning curves."""

from __future__ import annotations

import html
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jaxft.errors import InputError, nearest
from jaxft.files import atomic_file
from jaxft.study.groups import larger_is_better

SCRIPTS = ("rows.js", "format.js", "state.js", "filters.js", "groups.js", "table.js", "chart.js", "curves.js", "run.js")
DIGITS = 6  # of a curve's values, which are drawn; metrics are kept as they are

Row = Mapping[str, Any]


def write_page(
    rows: Sequence[Row],
    path: str | os.PathLike[str],
    *,
    title: str,
    axes: Sequence[str] | None = None,
    metric: str | None = None,
    directory: str | os.PathLike[str] | None = None,
    maximise: bool | None = None,
) -> None:
    """Writes a self-contained HTML page to sort, filter, group and compare the runs of a study.

    The page holds its data, style and script and reads nothing else. What it shows is kept in its address, so that a
    view can be linked.

    Args:
        rows: the study's rows, finished and diverged.
        path: the file to write; one that is there is replaced.
        title: heading of the page.
        axes: fields of the configuration to show, filter and colour by; by default those that vary.
        metric: the metric shown first and sorted by; by default the first one of the rows.
        directory: the study's directory as the command that reproduces a run names it; by default ``DIR``.
        maximise: whether a larger metric is better, and so stands first; None decides by its name, larger if that says
            neither.

    Raises:
        InputError: there is no row, an axis or the metric is in none, or ``path`` cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> rows = [{"key": f"{seed:x}", "config": {"seed": seed}, "metrics": {"accuracy": 0.9}} for seed in range(3)]
        >>> page = Path(tempfile.mkdtemp()) / "study.html"
        >>> write_page(rows, page, title="Three seeds")
        >>> "<h1>Three seeds</h1>" in page.read_text()
        True
    """
    if not rows:
        raise InputError("expected at least one row to show, but the study has none: run it first")
    study = {
        "title": title,
        "axes": _axes(rows, axes),
        "metric": (shown := _metric(rows, metric)),
        "maximise": _maximise(shown) if maximise is None else maximise,
        "directory": "DIR" if directory is None else os.fspath(directory),
        **_compact(rows),
    }
    parts = {
        "title": html.escape(title),
        "style": _part("page.css"),
        "script": "\n".join(_part(name) for name in SCRIPTS),
        "study": _embedded(study),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda hole: parts[hole[1]], _part("page.html"))
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _axes(rows: Sequence[Row], axes: Sequence[str] | None) -> list[str]:
    """The axes to show: those asked for, else the fields that vary, else all fields."""
    fields = _names(rows, "config")
    for axis in axes or ():
        if axis not in fields:
            raise InputError(f"expected an axis of the study, got {axis!r}; {nearest(axis, fields)}")
    if axes is not None:
        return list(axes)
    varied = [name for name in fields if len({repr(row["config"].get(name)) for row in rows}) > 1]
    return varied or fields


def _metric(rows: Sequence[Row], metric: str | None) -> str | None:
    names = _names(rows, "metrics")
    if metric is not None and metric not in names:
        raise InputError(f"expected a metric of the study, got {metric!r}; {nearest(metric, names)}")
    return metric or next(iter(names), None)


def _maximise(metric: str | None) -> bool:
    """The direction a page is sorted in at first, which anybody can turn round."""
    try:
        return metric is None or larger_is_better(metric)
    except InputError:
        return True


def _names(rows: Sequence[Row], section: str) -> list[str]:
    """The names in one section of the rows, in their order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.get(section) or {}))


def _compact(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows with their curves as columns, and what the provenance of all of them shares told once."""
    histories = [row.get("provenance") or {} for row in rows]
    shared = {
        name: value
        for name, value in histories[0].items()
        if all(name in history and history[name] == value for history in histories)
    }
    compact = []
    for row, history in zip(rows, histories, strict=True):
        own = {name: value for name, value in history.items() if name not in shared}
        compact.append({**row, "curve": _columns(row.get("curve") or ()), "provenance": own})
    return {"rows": compact, "shared": shared}


def _columns(curve: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for point in curve for name in point)
    return {name: [_rounded(point.get(name)) for point in curve] for name in names}


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) and math.isfinite(value) else value


def _embedded(study: Mapping[str, Any]) -> str:
    r"""JSON that can stand inside a script element: no ``<``, hence no end tag and no comment, can occur in it.

    Example:
        >>> _embedded({"title": "</script>", "loss": float("nan")})
        '{"title":"\\u003c/script>","loss":null}'
    """
    text = json.dumps(_finite(study), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    """The value with null for every number JSON has no word for."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _part(name: str) -> str:
    return (files("jaxft.study") / "page_parts" / name).read_text(encoding="utf-8")
