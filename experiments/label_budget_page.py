"""The table and the pictures of what labelled rows buy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import report

COSTS = {
    "rows": ("rows", "labelled rows"),
    "training": ("training_gflop", "GFLOP of training"),
    "inference": ("inference_gflop", "GFLOP of labelling a row"),
}
"""Picture -> column of the rows, and the words on its axis."""


def write(name: str, command: str, rows: Sequence[dict[str, Any]]) -> None:
    """The page, the CSV and the pictures of a finished grid."""
    report.write_page(name, page(command, rows), rows)
    for picture, (column, words) in COSTS.items():
        draw(rows, column, words, report.RESULTS / f"{name}_{picture}.png")


def page(command: str, rows: Sequence[dict[str, Any]]) -> str:
    sizes, seeds = sorted({row["rows"] for row in rows}), sorted({row["seed"] for row in rows})
    lines = []
    for way, own in report.grouped(list(rows), "way").items():
        cells = [report.mean_and_interval([row["accuracy"] for row in own if row["rows"] == size]) for size in sizes]
        most = max(row["training_gflop"] for row in own)
        lines.append((way[0], *cells, f"{most / 1000:,.1f}", f"{own[0]['inference_gflop']:.1f}"))
    columns = ("way", *(f"{size:,} rows" for size in sizes), "TFLOP of training, most rows", "GFLOP a row labelled")
    return f"""# What labelled rows buy

`{command}`

{report.markdown_table(columns, lines)}

Accuracy on test rows, the mean of {len(seeds)} seeds with half of Student's 95 % interval. Training counts the steps of
the model that is used, not those of a teacher.

{report.machine()}
"""


def draw(rows: Sequence[dict[str, Any]], column: str, words: str, path: Path) -> None:
    """Accuracy against a cost, a line a way; what a row costs to label is shown with the most rows."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for place, (way, own) in enumerate(report.grouped(list(rows), "way").items()):
        if column == "inference_gflop":
            own = [row for row in own if row["rows"] == max(other["rows"] for other in own)]
        points = {
            float(cost[0]): [row["accuracy"] for row in found] for cost, found in report.grouped(own, column).items()
        }
        costs = sorted(points)
        axes.plot(costs, [np.mean(points[cost]) for cost in costs], marker="osD^vPX*"[place % 8], label=way[0])
    axes.set_xscale("symlog" if column == "training_gflop" else "log")
    axes.set(xlabel=words, ylabel="accuracy")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
