"""What a device has: memory for a program, and cores for several calls at a time."""

from __future__ import annotations

import os

import jax


def device_bytes() -> int:
    """Memory that a program may take: of the device, or on a CPU half of what the machine has."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] * 0.9)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def threads() -> int:
    """Calls that are faster at a time than one by one: as many as this process has cores of a CPU, else one.

    Where ``OMP_NUM_THREADS`` is set, as Ray and many clusters do for their share of a machine, there are no more.
    """
    if jax.default_backend() != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(share)) if share.isdecimal() and int(share) else cores
