"""How much memory a program may take."""

from __future__ import annotations

import os

import jax


def device_bytes() -> int:
    """Memory that a program may take: of the device, or on a CPU half of what the machine has."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] * 0.9)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
