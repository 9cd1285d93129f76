"""Measures one method beside plain LoRA and prints the figures as JSON: python -m bench.methods METHOD, or names."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

import jaxft as ft
from bench.case import LABELS, RANK, random_batch

STEPS, WARM_UP = 20, 3
WEIGHTS, KERNELS = "**/attention/{query,value}/kernel", "encoder/**/kernel"


def lora() -> ft.Adaptation:
    return ft.lora(WEIGHTS, rank=RANK)


METHODS: dict[str, Callable[[], ft.Adaptation]] = {
    "DoRA": lambda: ft.dora(WEIGHTS, rank=RANK),
    "IA3": lambda: ft.ia3("**/attention/{key,value}/kernel", inputs="**/feed_forward/down/kernel"),
    "BitFit": lambda: ft.bitfit(~ft.glob("head/**")),
    "norms": ft.norms,
    "int8 + LoRA": lambda: ft.chain(ft.quantise(KERNELS), lora()),
    "nf4 + LoRA": lambda: ft.chain(ft.quantise(KERNELS, kind="nf4"), lora()),
    "nf4 + DoRA": lambda: ft.chain(ft.quantise(KERNELS, kind="nf4"), ft.dora(WEIGHTS, rank=RANK)),
}
"""What each trains beside the head; a line here is a line of the table."""


def compiled_step(model: ft.Model, adaptation: ft.Adaptation, batch: Any) -> tuple[Callable[[], float], Any, int, int]:
    """A function that makes one step and returns its seconds, the compiled step, trained numbers, and frozen bytes."""
    step = ft.make_step(model.apply, ft.chain(adaptation, ft.tune("head/**")), ft.cross_entropy(), ft.adamw(1e-4))
    frozen, state = step.init(jax.random.key(0), model.params, batch)
    compiled = jax.jit(step.update, donate_argnums=1).lower(frozen, state, batch).compile()

    def timed() -> float:
        nonlocal state
        start = time.perf_counter()
        state, metrics = compiled(frozen, state, batch)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    trained = sum(leaf.size for leaf in jax.tree.leaves(state.delta))
    return timed, compiled, trained, sum(leaf.nbytes for leaf in jax.tree.leaves(frozen))


def measure(method: str) -> dict[str, float]:
    """Medians over steps of the method and of LoRA in turns, so that other load on the machine slows both alike."""
    model = ft.load_model("minilm", task="classify", num_labels=LABELS)
    batch = random_batch(model)
    timed, compiled, trained, frozen_bytes = compiled_step(model, METHODS[method](), batch)
    timed_lora, compiled_lora, *_ = compiled_step(model, lora(), batch)
    times = [(timed(), timed_lora()) for _ in range(WARM_UP + STEPS)][WARM_UP:]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "seconds": ours,
        "of_lora": ours / theirs,
        "flops": compiled.cost_analysis()["flops"],
        "flops_of_lora": compiled.cost_analysis()["flops"] / compiled_lora.cost_analysis()["flops"],
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "frozen_bytes": frozen_bytes,
        "trained": trained,
    }


if __name__ == "__main__":
    print(json.dumps({"names": list(METHODS)} if sys.argv[1] == "names" else measure(sys.argv[1])))
