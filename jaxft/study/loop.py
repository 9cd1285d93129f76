"""A run step by step, with its rows on the host: for data that does not fit the device."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.study.experiment import Experiment, step_of, task_of
from jaxft.study.feed import Feed, feed, whole
from jaxft.study.prepare import Prepared
from jaxft.study.start import first_batch, first_state
from jaxft.study.trace import Outcome, digest, evaluate_state, traced_once


class _HostBatches:
    """``batches[step]``: the rows that the compiled program would take, cut on the host."""

    def __init__(self, prepared: Prepared, stream: Feed):
        self._columns, self._stream = prepared.train, stream
        self._epoch = jax.jit(
            lambda view, number: stream.orders[view].epoch(stream.keys[view], number), static_argnums=0
        )
        self._kept: dict[Any, tuple[int, np.ndarray]] = {}

    def __getitem__(self, step: int) -> Any:
        return whole({view: self._part(view, step) for view in self._columns})

    def _part(self, view: str | None, step: int) -> dict[str, np.ndarray]:
        order = self._stream.orders[view]
        number = step // order.steps_per_epoch
        if self._kept.get(view, (-1,))[0] != number:
            self._kept[view] = (number, np.asarray(self._epoch(view, number)))
        rows, mask = map(np.asarray, order.batch(jnp.asarray(self._kept[view][1]), step))
        return jax.tree.map(lambda column: np.asarray(column[rows]), self._columns[view]) | {"mask": mask}


def run_loop(experiment: Experiment, prepared: Prepared) -> Outcome:
    """The outcome of one run, each step a call.

    Args:
        experiment: with plain numbers for settings.
        prepared: its data.
    """
    init_key, order_key = jax.random.split(jax.random.key(experiment.seed))
    stream = feed(prepared.train, order_key, batch_size=experiment.batch_size, chosen=experiment.rows)
    batches = _HostBatches(prepared, stream)
    apply = experiment.model.apply
    step = step_of(experiment, apply)
    frozen, state = step.init(init_key, experiment.model.params, batches[0])
    update = jax.jit(step.update, donate_argnums=1)
    evaluation = jax.jit(partial(evaluate_state, apply, experiment.adaptation, task_of(experiment)))
    every = experiment.evaluate_every or experiment.steps
    metrics, predictions = [], []
    for index in range(experiment.steps):
        state, found = update(frozen, state, batches[index])
        metrics.append(found)
        if (index + 1) % every == 0 or index + 1 == experiment.steps:
            predictions.append(jax.device_get(evaluation(frozen, state, prepared.held_out)))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(metrics))
    measured = jax.tree.map(lambda *leaves: np.stack(leaves), *predictions)
    return Outcome(stacked, measured, jax.device_get(digest(state.delta)))


def step_flops(experiment: Experiment, prepared: Prepared) -> float:
    """The operations of the matrix products and convolutions of a step; nothing is computed.

    Args:
        experiment: of one of the runs.
        prepared: its data.
    """
    found: list[float] = []

    def look() -> None:
        step = step_of(experiment, experiment.model.apply)
        frozen, state = first_state(experiment, prepared)
        batch = first_batch(experiment, prepared)
        found.append(traced_once(partial(step.update, frozen), state, batch)[1])

    jax.eval_shape(look)
    return found[-1]
