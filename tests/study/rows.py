"""Made-up rows of a study: three methods, four learning rates, five seeds; two runs diverge."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from typing import Any

METHODS = {"full": (66_000_000, 4.1), "lora": (147_456, 2.3), "head": (770, 0.8)}
RATES = (1e-5, 1e-4, 3e-4, 1e-3)
STEPS = range(15, 301, 15)


def made_up(method: str, lr: float, seed: int, *, diverged: bool = False) -> dict[str, Any]:
    """The row of one run that never happened."""
    dice = random.Random(f"{method} {lr} {seed}")
    key = hashlib.sha256(f"{method} {lr} {seed}".encode()).hexdigest()[:16]
    parameters, seconds = METHODS[method]
    floor = 0.25 + 0.04 * abs(math.log10(lr) + 3.6) + 0.02 * list(METHODS).index(method) + dice.gauss(0, 0.01)
    curve: list[dict[str, Any]] = []
    for step in STEPS:
        loss = floor + 0.45 * math.exp(-step * (lr * 3e4) ** 0.5 / 300) + dice.gauss(0, 0.012)
        loss = loss * math.exp(step / 40) if diverged else loss
        curve.append({"step": step, "loss": None if diverged and step > 150 else loss})
        if step % 60 == 0 and not diverged:
            curve[-1] |= {"test/accuracy": 1.12 - loss, "validation/accuracy": 1.1 - loss}
    accuracy = 1.12 - floor + dice.gauss(0, 0.006)
    metrics = {"accuracy": accuracy, "f1": accuracy - 0.004, "loss": floor}
    return {
        "key": key,
        "config": {"method": method, "rank": 8, "lr": lr, "seed": seed},
        "metrics": dict.fromkeys(metrics) if diverged else metrics,
        "validation": {"accuracy": None if diverged else accuracy - 0.01},
        "curve": curve,
        "cost": {
            "trained_parameters": parameters,
            "flops": 31.0 * parameters,
            "bytes": 8 * parameters,
            "seconds": seconds,
        },
        "program": {
            "stack": "map",
            "lanes": 8,
            "lane": seed,
            "traced": ["lr", "seed"],
            "prefix_cache": method == "head",
        },
        "provenance": {
            "code": hashlib.sha256(b"code").hexdigest(),
            "git": None,
            "dirty": False,
            "base": hashlib.sha256(b"base").hexdigest(),
            "data": hashlib.sha256(b"data").hexdigest(),
            "versions": {"jax": "0.10.2", "numpy": "2.4.6"},
            "backend": "cpu",
            "started": f"2026-11-23T20:{seed:02}:00",
            "bits": key,
        },
        "status": "diverged" if diverged else "finished",
    }


def study_rows() -> list[dict[str, Any]]:
    """All sixty, of which two diverged."""
    grid = itertools.product(METHODS, RATES, range(5))
    return [made_up(*run, diverged=run in {("full", 1e-3, 1), ("full", 1e-3, 4)}) for run in grid]
