"""Measures one method in this process and prints the figures as JSON: python -m bench.case METHOD."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jaxft as ft
from bench.theory import Size, step_flops

BATCH, LENGTH, STEPS, WARM_UP = 32, 64, 20, 3
TOP, RANK, LABELS = 2, 8, 2
PRODUCT, PRODUCTS = 2048, 8  # together about as long as a step, so that other load on the machine slows both alike
METHODS: dict[str, Callable[[], ft.Adaptation]] = {
    "full": ft.full,
    "top": lambda: ft.tune(ft.glob("encoder/layer_{4,5}/**") | ft.glob("head/**")),
    "lora": lambda: ft.chain(
        ft.lora("**/attention/{query,value}/kernel", rank=RANK, alpha=16), ft.tune(ft.glob("head/**"))
    ),
    "head": lambda: ft.tune(ft.glob("head/**")),
}


def measure(method: str) -> dict[str, float]:
    """Medians over the steps; the machine's own product rate is measured after every step, under the same load."""
    model = ft.load_model("minilm", task="classify", num_labels=LABELS)
    step = ft.make_step(model.apply, METHODS[method](), ft.cross_entropy(), ft.adamw(1e-4))
    rng = np.random.default_rng(0)
    batch = {
        "input_ids": rng.integers(1000, model.config.vocab_size, (BATCH, LENGTH), dtype=np.int32),
        "attention_mask": np.ones((BATCH, LENGTH), np.int32),
        "labels": rng.integers(0, LABELS, BATCH, dtype=np.int32),
        "mask": np.ones(BATCH, bool),
    }
    frozen, state = step.init(jax.random.key(0), model.params, batch)
    traces = 0

    def update(frozen: ft.StepFrozen, state: ft.TrainState, batch: dict[str, np.ndarray]):
        nonlocal traces
        traces += 1
        return step.update(frozen, state, batch)

    jitted = jax.jit(update, donate_argnums=1)
    square = jnp.ones((PRODUCT, PRODUCT))
    product = jax.jit(jnp.matmul)
    steps, products = [], []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        state, metrics = jitted(frozen, state, batch)
        jax.block_until_ready((state, metrics))
        steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(PRODUCTS):
            jax.block_until_ready(product(square, square))
        products.append((time.perf_counter() - start) / PRODUCTS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seen = traces
    costs = jitted.lower(frozen, state, batch).compile().cost_analysis() or {}
    size = Size(
        BATCH, LENGTH, model.config.hidden_size, model.config.intermediate_size, model.config.num_layers, LABELS
    )
    theory = step_flops(method, size, top=TOP, rank=RANK)
    seconds = statistics.median(steps[WARM_UP:])
    rate = 2 * PRODUCT**3 / statistics.median(products[WARM_UP:])
    return {
        "seconds": seconds,
        "gflops": theory / seconds / 1e9,
        "product_gflops": rate / 1e9,
        "of_product": theory / seconds / rate,
        "compiled_over_theory": costs["flops"] / theory,
        "peak_bytes": float(peak),
        "traces": seen,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
