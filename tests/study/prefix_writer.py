"""Writes activations to the cache, and stops half-way when asked to: ``python prefix_writer.py KEY [half]``."""

import sys
import time
from collections.abc import Iterator

import numpy as np

from jaxft.files import Layout
from jaxft.study.prefix_store import keep

ROWS, WIDTH = 8, 5


def chunks(half: bool = False) -> Iterator[tuple[int, list[np.ndarray]]]:
    for start in range(0, ROWS, 2):
        print("computed", start, flush=True)
        yield start, [np.full((2, WIDTH), start, np.float32), np.full((2,), start, np.int32)]
        if half and start == 2:
            print("half", flush=True)
            time.sleep(60)


def arrays(key: str, half: bool = False, limit: int = 0) -> tuple[np.ndarray, ...]:
    layouts = [Layout((ROWS, WIDTH), np.dtype(np.float32)), Layout((ROWS,), np.dtype(np.int32))]
    return keep(key, layouts, lambda: chunks(half), limit)


if __name__ == "__main__":
    print("sum", float(arrays(sys.argv[1], "half" in sys.argv)[0].sum()))
