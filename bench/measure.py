"""What every measurement shares: timed steps beside timed matrix products, and the compiler's own count."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

import jaxft as ft

PRODUCT, PRODUCTS = 2048, 8  # together about as long as a step, so that other load on the machine slows both alike
WARM_UP = 3


def product_seconds() -> float:
    """The time of one matrix product."""
    square = jnp.ones((PRODUCT, PRODUCT))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square, square))
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        jax.block_until_ready(product(square, square))
    return (time.perf_counter() - start) / PRODUCTS


def product_rate() -> float:
    """Operations a second of a matrix product, the median of five measurements."""
    return 2 * PRODUCT**3 / statistics.median(product_seconds() for _ in range(5))


def measure_step(model: ft.Model, step: ft.Step, batch: Any, theory: float, *, steps: int) -> dict[str, float]:
    """Medians over the steps; the machine's own product rate is measured after every step, under the same load."""
    frozen, state = step.init(jax.random.key(0), model.params, batch)
    traces = 0

    def update(frozen: ft.StepFrozen, state: ft.TrainState, batch: Any) -> Any:
        nonlocal traces
        traces += 1
        return step.update(frozen, state, batch)

    jitted = jax.jit(update, donate_argnums=1)
    times, products = [], []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        state, metrics = jitted(frozen, state, batch)
        jax.block_until_ready((state, metrics))
        times.append(time.perf_counter() - start)
        products.append(product_seconds())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    seen = traces
    costs = jitted.lower(frozen, state, batch).compile().cost_analysis() or {}
    seconds = statistics.median(times[WARM_UP:])
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
