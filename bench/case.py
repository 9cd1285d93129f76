"""Measures one method in this process and prints the figures as JSON: python -m bench.case METHOD."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import numpy as np

import jaxft as ft
from bench.measure import measure_step
from bench.theory import Size, step_flops

BATCH, LENGTH, STEPS = 32, 64, 20
TOP, RANK, LABELS = 2, 8, 2
METHODS: dict[str, Callable[[], ft.Adaptation]] = {
    "full": ft.full,
    "top": lambda: ft.tune(ft.glob("encoder/layer_{4,5}/**") | ft.glob("head/**")),
    "lora": lambda: ft.chain(
        ft.lora("**/attention/{query,value}/kernel", rank=RANK, alpha=16), ft.tune(ft.glob("head/**"))
    ),
    "head": lambda: ft.tune(ft.glob("head/**")),
}


def random_batch(model: ft.Model) -> dict[str, np.ndarray]:
    """Random tokens and labels without padding."""
    rng = np.random.default_rng(0)
    return {
        "input_ids": rng.integers(1000, model.config.vocab_size, (BATCH, LENGTH), dtype=np.int32),
        "attention_mask": np.ones((BATCH, LENGTH), np.int32),
        "labels": rng.integers(0, LABELS, BATCH, dtype=np.int32),
        "mask": np.ones(BATCH, bool),
    }


def measure(method: str) -> dict[str, float]:
    """Medians over the steps of one method."""
    model = ft.load_model("minilm", task="classify", num_labels=LABELS)
    step = ft.make_step(model.apply, METHODS[method](), ft.cross_entropy(), ft.adamw(1e-4))
    batch = random_batch(model)
    size = Size(
        BATCH, LENGTH, model.config.hidden_size, model.config.intermediate_size, model.config.num_layers, LABELS
    )
    return measure_step(model, step, batch, step_flops(method, size, top=TOP, rank=RANK), steps=STEPS)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
