"""One of several processes that train together:   python distributed_run.py PORT COUNT INDEX DIRECTORY STEPS"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax

from jaxft.train import adamw, data_parallel, fit
from tests.train.linear import LinearBatches, accuracy, linear_params, linear_step


def main(port: str, count: str, index: str, directory: str, steps: str) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(index))
    assert jax.process_count() == int(count)
    assert len(jax.devices()) == int(count)
    together = data_parallel()
    step = linear_step(adamw(2e-2))
    frozen, state = step.init(jax.random.key(7), linear_params(), None)
    result = fit(
        step,
        frozen,
        state,
        LinearBatches(),
        steps=int(steps),
        directory=directory,
        save_every=10,
        placement=together,
        evaluate=lambda frozen, state: accuracy(frozen, state, placement=together),
        resume=True,
        log_every=1,
        progress=False,
    )
    print("step", int(result.state.step))


if __name__ == "__main__":
    main(*sys.argv[1:])
