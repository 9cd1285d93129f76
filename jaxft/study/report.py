"""What a study leaves to read: tables, pictures and a page."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import InputError
from jaxft.files import atomic_file
from jaxft.study.compare import Comparison, compare
from jaxft.study.tables import csv_groups, csv_runs, latex_table, markdown_table

logger = logging.getLogger(__name__)

SEED = "seed"
LABELLED = "rows"
"""The setting that says how many labelled rows a run has, and so is the axis of a data-efficiency curve."""
COSTS = ("trained_parameters", "flops", "bytes", "seconds")
METRICS = ("perplexity", "accuracy", "f1", "pearson")
"""What a table compares if nothing is said: the first that the rows have."""


class Layout(NamedTuple):
    """What a report compares.

    Attributes:
        title: of the study.
        by: the fields that set groups apart.
        metric: None takes the first of `METRICS` that the rows have, or else their first.
        equalise: fields that are chosen for each group on validation rows.
        maximise: whether a larger metric is better; None decides by its name.
    """

    title: str
    by: tuple[str, ...]
    metric: str | None = None
    equalise: tuple[str, ...] = ()
    maximise: bool | None = None


def compare_runs(rows: Sequence[Mapping[str, Any]], layout: Layout) -> Comparison:
    """The comparison of a report: over seeds, with paired tests where there are two or more.

    Raises:
        InputError: as `compare`.
    """
    metric = layout.metric or _metric(rows)
    seeds = {row["config"].get(SEED) for row in rows}
    test = "t" if len(seeds) > 1 else None
    how: dict[str, Any] = {"test": test, "equalise": layout.equalise, "maximise": layout.maximise}
    return compare(rows, by=layout.by, metric=metric, over=SEED, **how)


def write_report(rows: Sequence[Mapping[str, Any]], directory: str | os.PathLike[str], layout: Layout) -> str:
    """Writes ``table.md``, ``.tex`` and ``.csv``, ``runs.csv``, figures and ``index.html`` to ``directory/report``.

    Args:
        rows: of a study.
        directory: of the study.
        layout: of the tables.

    Returns:
        The table in Markdown.

    Raises:
        InputError: as `compare`, or the directory cannot be written to.
    """
    from jaxft.study.page import write_page

    place = Path(directory) / "report"
    rows = [_with_seed(row) for row in rows]
    comparison = compare_runs(rows, layout)
    place.mkdir(parents=True, exist_ok=True)
    table = markdown_table(comparison)
    texts = {
        "table.md": table,
        "table.tex": latex_table(comparison, label=f"tab:{layout.title}"),
        "table.csv": csv_groups(comparison),
        "runs.csv": csv_runs(comparison),
    }
    for name, text in texts.items():
        with atomic_file(place / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for name, draw in _pictures(rows, layout, comparison).items():
        for kind in ("svg", "png"):
            try:
                picture = draw(kind)
            except InputError as reason:
                logger.warning("no picture %s: %s", name, reason)
                break
            with atomic_file(place / f"{name}.{kind}") as temporary:
                temporary.write_bytes(picture)
    axes = [*layout.by, *layout.equalise, *([SEED] if SEED not in layout.by else [])]
    write_page(
        rows,
        place / "index.html",
        title=layout.title,
        axes=axes,
        metric=comparison.metric,
        directory=directory,
        maximise=comparison.maximise,
    )
    return table


def _pictures(
    rows: Sequence[Mapping[str, Any]], layout: Layout, comparison: Comparison
) -> dict[str, Callable[[str], bytes]]:
    """Each picture's name, and what draws it in a format."""
    from jaxft.study import curves, figures

    chosen: dict[str, Any] = {"metric": comparison.metric, "over": SEED, "equalise": layout.equalise}
    chosen["maximise"] = comparison.maximise

    def learning(format: str) -> bytes:
        found = curves.learning_curves(rows, "loss", by=layout.by, **chosen)
        return figures.learning_curves_picture(found, format=format)

    def front(cost: str, format: str) -> bytes:
        return figures.front_picture(curves.cost_front(rows, cost=cost, by=layout.by, **chosen), format=format)

    def efficiency(format: str) -> bytes:
        by = tuple(name for name in layout.by if name != LABELLED)
        found = curves.data_efficiency(rows, axis=LABELLED, by=by, **chosen)
        return figures.data_efficiency_picture(found, format=format)

    drawn: dict[str, Callable[[str], bytes]] = {f"cost_{cost}": partial(front, cost) for cost in COSTS}
    drawn["comparison"] = lambda format: figures.comparison_picture(comparison, format=format)
    drawn["learning_curves"] = learning
    return drawn | ({"data_efficiency": efficiency} if LABELLED in layout.by else {})


def _metric(rows: Sequence[Mapping[str, Any]]) -> str:
    known = rows[0]["metrics"] if rows else {}
    if not known:
        raise InputError("there is no row to compare: run the study first")
    return next((name for name in METRICS if name in known), next(iter(known)))


def _with_seed(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of a run without a seed, as if its seed were 0."""
    return row if SEED in row["config"] else {**row, "config": {**row["config"], SEED: 0}}
