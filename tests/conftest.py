"""The environment of the tests: the CPU, no network, programs compiled once, one thread a worker."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Runs in every worker before a test module, and so jax, is imported."""
    cache = config.rootpath / ".pytest_cache"
    defaults = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "HF_HOME": str(cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MPLBACKEND": "agg",
    }
    if "PYTEST_XDIST_WORKER" in os.environ:  # a worker has about one core: more threads only get in each other's way
        defaults |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _memory_maps() -> int:
    """How many maps this process has, zero where the system does not say; Linux allows 65,530."""
    try:
        with open("/proc/self/maps", "rb") as lines:
            return sum(1 for _ in lines)
    except OSError:
        return 0


@pytest.fixture(scope="module", autouse=True)
def few_memory_maps() -> Iterator[None]:
    """Each compiled program keeps maps of memory; a worker that runs out of them dies."""
    yield
    if _memory_maps() > 20_000:
        import jax

        jax.clear_caches()
        gc.collect()
