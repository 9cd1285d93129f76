"""What a process does that does runs of a shared study.

Each run that begins and each that is done is a line of its own log: key, begin or done, process.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from jaxft.study.claims import Claims
from jaxft.study.store import Store

BATCH = 3


def row(key: str) -> dict:
    """What a run gives, the same whoever does it."""
    return {
        "key": key,
        "config": {"seed": int(key, 16)},
        "metrics": {"accuracy": int(key, 16) / 7},
        "status": "finished",
    }


def main(directory: Path, runs: int, seconds: float, stale: float) -> None:
    store, keys = Store(directory), [f"{number:016x}" for number in range(runs)]
    log = os.open(directory.parent / f"log.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    random.seed(os.getpid())
    with Claims(directory, stale=stale) as claims:
        while missing := sorted(set(keys) - store.finished()):
            random.shuffle(missing)
            taken = claims.take(missing[:BATCH])
            done = store.finished()
            for key in (key for key in taken if key not in done):
                os.write(log, f"{key} begin {os.getpid()}\n".encode())
                time.sleep(seconds)
                if claims.still_held(key):
                    added = store.add(row(key))
                    os.write(log, f"{key} {'done' if added else 'dropped'} {os.getpid()}\n".encode())
            claims.release(taken)
            if not taken:
                time.sleep(seconds)
        claims.sweep(store.finished())
