"""Rows that nobody ran, for the tests of tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def row(value: float | None, *, validation: float | None = None, key: str = "", **config: Any) -> dict[str, Any]:
    """One row with an accuracy; None is a run that diverged."""
    made = {
        "key": key or "-".join(map(str, config.values())),
        "config": config,
        "metrics": {"accuracy": value},
        "status": "diverged" if value is None else "finished",
    }
    return made if validation is None else made | {"validation": {"accuracy": validation}}


def table(values: Mapping[str, Sequence[float | None]], **config: Any) -> list[dict[str, Any]]:
    """Rows of one method after another, a value a seed."""
    return [
        row(value, method=method, seed=seed, **config)
        for method, column in values.items()
        for seed, value in enumerate(column)
    ]


def study(methods: Mapping[str, float], *, seeds: int = 5, counts: tuple[int, ...] = (1000,)) -> list[dict[str, Any]]:
    """Full rows with costs and learning curves: the mean accuracy of each method at the largest number of labels."""
    generator = np.random.default_rng(0)
    rows = []
    for place, (method, level) in enumerate(methods.items()):
        for count in counts:
            for seed in range(seeds):
                final = level - 0.06 * np.log10(counts[-1] / count) + generator.normal(0, 0.008)
                curve = [
                    {"step": step, "loss": 0.7 * np.exp(-step / (60 + 20 * place)) + generator.uniform(0, 0.08)}
                    | ({"test/accuracy": final - 0.3 * np.exp(-step / 60)} if step % 50 == 0 else {})
                    for step in range(10, 310, 10)
                ]
                made = row(round(final, 4), method=method, labelled=count, seed=seed)
                made["cost"] = {
                    "trained_parameters": 300 * 9**place,
                    "flops": 1e9 * (1 + place),
                    "bytes": 10**7 * (1 + place),
                    "seconds": 2.0 + place + 0.1 * seed,
                }
                rows.append(made | {"curve": curve})
    return rows
