"""Two real processes training together over the loopback network."""

from __future__ import annotations

import json
import socket

import jax
import numpy as np
import pytest

from jaxft.train import adamw, fit
from tests.train.linear import LinearBatches, accuracy, linear_params, linear_step
from tests.train.processes import SCRIPT, start, value

DISTRIBUTED = SCRIPT.with_name("distributed_run.py")


def train_together(directory, steps: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(port, 2, index, directory, steps, script=DISTRIBUTED) for index in range(2)]
    try:
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            assert value(output, "step") == str(steps)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_two_processes_follow_the_loss_curve_of_one(tmp_path):
    train_together(tmp_path, 15)
    train_together(tmp_path, 30)
    step = linear_step(adamw(2e-2))
    frozen, state = step.init(jax.random.key(7), linear_params(), None)
    alone = fit(step, frozen, state, LinearBatches(), steps=30, log_every=1, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    figures = [line for line in lines if "eval/accuracy" in line]
    assert [line["step"] for line in figures] == [15, 30]
    assert figures[-1]["eval/accuracy"] == accuracy(frozen, alone.state)["accuracy"]
    lines = [line for line in lines if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 31))
    np.testing.assert_allclose(
        [line["loss"] for line in lines], [line["loss"] for line in alone.history], rtol=0, atol=5e-6
    )
