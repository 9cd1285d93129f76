"""Trains the linear step in its own process, so that a test can end it:   python linear_run.py DIRECTORY [--resume]"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax

from jaxft.train import Checkpointer, Interrupted, adamw, checkpoint, fit, fully_sharded, warmup_linear
from jaxft.trees import fingerprint
from tests.train.linear import LinearBatches, accuracy, linear_params, linear_step

STEPS = 120


class SlowBatches(LinearBatches):
    def __getitem__(self, step):
        time.sleep(0.005)
        return super().__getitem__(step)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_during_save(number: int, delay: float | None) -> None:
    """Makes the process kill itself ``delay`` seconds after a save began, or when only the manifest is missing."""
    if delay is None:
        write = checkpoint.write_manifest
        checkpoint.write_manifest = lambda path, said: die() if said.step == number else write(path, said)
        return
    save = Checkpointer.save

    def deadly(self, state, metrics=None):
        if int(state.step) == number:
            threading.Timer(delay, die).start()
        save(self, state, metrics)

    Checkpointer.save = deadly


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sharded", action="store_true")
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--delay", type=float)
    given = parser.parse_args()
    if given.die_at is not None:
        die_during_save(given.die_at, given.delay)
    step = linear_step(adamw(warmup_linear(1e-2, STEPS // 2), accumulate=2))
    params = linear_params()
    batches = SlowBatches()
    frozen, state = step.init(jax.random.key(7), params, batches[0])
    try:
        result = fit(
            step,
            frozen,
            state,
            batches,
            steps=given.steps,
            directory=given.directory,
            evaluate=accuracy,
            evaluate_every=25,
            save_every=10,
            best="accuracy",
            resume=given.resume,
            base=fingerprint(params),
            config={"steps": STEPS},
            placement=fully_sharded() if given.sharded else None,
            log_every=5,
        )
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 143
    print("fingerprint", fingerprint(jax.device_get(result.state)))
    print("losses", *[line["loss"] for line in result.history if "loss" in line])
    return 0


if __name__ == "__main__":
    sys.exit(main())
