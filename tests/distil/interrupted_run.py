"""Asks a slow teacher for what it says of some rows; to be killed in the middle.   python … FOLDER"""

from __future__ import annotations

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxft as ft

ROWS, BATCH = 400, 2
DATA = ft.data.arrays({"x": np.arange(2.0 * ROWS).reshape(ROWS, 2) / ROWS, "labels": np.arange(ROWS) % 2})


def teacher(pause: float) -> ft.Model:
    """Says on standard output when it is asked."""

    def ask(x: Any) -> Any:
        print("asked", flush=True)
        time.sleep(pause)
        return np.asarray(x) * 3

    def apply(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Any:
        shape = jax.ShapeDtypeStruct(batch["x"].shape, jnp.float32)
        return jax.pure_callback(ask, shape, batch["x"]) + params

    return ft.Model(apply, jnp.ones(2), None)


if __name__ == "__main__":
    ft.distil.remember(teacher(0.02), DATA, sys.argv[1], batch_size=BATCH)
