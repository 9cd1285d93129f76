"""From what a run computed to the row that is kept of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxft.study.predictions import figures
from jaxft.study.program import Program
from jaxft.study.trace import Facts, Outcome

POINTS = 100
"""Points of a learning curve at most, those of evaluations apart."""


def make_row(
    key: str, config: Mapping[str, Any], outcome: Outcome, facts: Facts, program: Program, seconds: float, lane: int
) -> dict[str, Any]:
    """The row of a run, but for where it comes from.

    Args:
        key: of the run.
        config: its settings.
        outcome: what it computed.
        facts: what was known of it.
        program: that computed it.
        seconds: its share of the time that the runs under way with it took.
        lane: its place among the runs of the call.
    """
    measured = {part: _measured(outcome, facts, part) for part in facts.labels}
    finite = all(np.isfinite(values).all() for values in jax.tree.leaves((outcome.metrics, outcome.predictions)))
    row: dict[str, Any] = {
        "key": key,
        "config": dict(config),
        "status": "finished" if finite else "diverged",
        "metrics": measured["test"][-1],
        "curve": _curve(outcome, facts, measured),
        "cost": {
            "trained_parameters": facts.trained,
            "flops": program.trace.flops,
            "bytes": None if program.stack == "loop" else round(program.trace.nbytes + program.bytes_a_run),
            "seconds": seconds,
        },
        "program": {
            "stack": program.stack,
            "lanes": program.lanes,
            "threads": program.threads,
            "lane": lane,
            "traced": list(program.trace.names),
            "prefix": program.trace.prefix,
            "compile_seconds": program.compile_seconds,
        },
        "provenance": {"base": facts.base, "built": facts.built, "data": facts.data, "bits": bits(outcome)},
    }
    if "validation" in measured:
        row["validation"] = measured["validation"][-1]
    return row


def bits(outcome: Outcome) -> str:
    """sha256 of all that a run computed: learned arrays, predictions and metrics."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(outcome):
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return hashed.hexdigest()


def _measured(outcome: Outcome, facts: Facts, part: str) -> list[dict[str, float | None]]:
    """The figures of every evaluation."""
    predictions = outcome.predictions[part]
    return [figures(predictions[place], facts.labels[part], facts.task) for place in range(len(facts.points))]


def _curve(outcome: Outcome, facts: Facts, measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Means of the step's metrics over stretches of steps, and the figures of evaluations, in order of steps."""
    steps = facts.points[-1]
    length = -(-steps // POINTS)
    points: dict[int, dict[str, Any]] = {}
    for first in range(0, steps, length):
        last = min(first + length, steps)
        means = {name: float(np.mean(values[first:last])) for name, values in outcome.metrics.items()}
        points[last] = {"step": last, **means}
    for part, found in measured.items():
        for step, named in zip(facts.points, found, strict=True):
            points.setdefault(step, {"step": step})
            points[step] |= {f"{part}/{name}": value for name, value in named.items()}
    return [points[step] for step in sorted(points)]
