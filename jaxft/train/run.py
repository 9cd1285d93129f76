"""A training run under way: its state, the metrics not yet read, and what is written of them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import jax
import numpy as np

from jaxft.errors import InputError, nearest
from jaxft.train.checkpoint import Checkpointer
from jaxft.train.recorder import Recorder
from jaxft.train.stops import NonFiniteLoss, TrainingStopped
from jaxft.types import Batch, Metrics, StepFrozen, TrainState

_IGNORED = -100
_LAG = 4
"""Steps that may be under way before the metrics of the oldest are read."""

Stop = TypeVar("Stop", bound=TrainingStopped)


class Run:
    """Advances a state and reads metrics late, so that the device never waits for the host.

    Args:
        update: the compiled step; its state is donated.
        frozen: what the step reads.
        state: what it changes; owned by the run.
        metrics: where the metrics go, which depend on the run alone.
        timings: where the times go, which differ from run to run.
        checkpoints: where the state is saved, or None.
        log_every: steps between lines.
        steps: the last step, which always has a line.
    """

    def __init__(
        self,
        update: Callable[..., tuple[TrainState, Metrics]],
        frozen: StepFrozen,
        state: TrainState,
        metrics: Recorder,
        timings: Recorder,
        checkpoints: Checkpointer | None,
        *,
        log_every: int,
        steps: int,
    ):
        self.state, self.done, self.loss = state, int(state.step), math.nan
        self._update, self._frozen = update, frozen
        self._metrics, self._timings, self._checkpoints = metrics, timings, checkpoints
        self._log_every, self._steps = log_every, steps
        self._best = None if checkpoints is None else checkpoints.best_value()
        self._pending: deque[tuple[int, Metrics, list[np.ndarray]]] = deque()
        self._clock = (self.done, time.monotonic())

    def advance(self, batch: Batch) -> None:
        """Starts one update and reads the metrics of the one a few steps back."""
        self.state, metrics = self._update(self._frozen, self.state, batch)
        self.done += 1
        self._pending.append((self.done, metrics, _labels(batch)))
        self._read(leave=_LAG)

    def settle(self) -> None:
        """Waits for all updates and reads their metrics.

        Raises:
            NonFiniteLoss: a loss or gradient norm is not finite.
        """
        self._read(leave=0)

    def evaluate(self, evaluation: Callable[[StepFrozen, TrainState], Mapping[str, float]]) -> dict[str, float]:
        """Evaluates the state and writes the figures under "eval/…"."""
        self.settle()
        figures = {name: float(value) for name, value in evaluation(self._frozen, self.state).items()}
        self._metrics.write(self.done, {f"eval/{name}": value for name, value in figures.items()})
        return figures

    def improves(self, figures: Mapping[str, float], best: str | None, mode: Literal["max", "min"]) -> bool:
        """Whether the figures hold a better value of the chosen one than any evaluation that was saved before."""
        if best is None or not figures:
            return False
        if best not in figures:
            self.save(figures)  # so that a misspelt name costs no training
            raise InputError(
                f"the best checkpoint is chosen by {best!r}, which no evaluation gave; {nearest(best, figures)}"
            )
        value, former = figures[best], self._best
        better = math.isfinite(value) and (former is None or (value > former if mode == "max" else value < former))
        if better:
            self._best = value
        return better

    def save(self, figures: Mapping[str, float]) -> None:
        """Starts a checkpoint, once every step up to it is known to be finite and its lines are on disk."""
        self.settle()
        if self._checkpoints is not None:
            self._metrics.sync()
            self._checkpoints.save(self.state, figures)

    def close(self) -> None:
        """Waits for the checkpoint under way."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def stopped(self, kind: type[Stop], reason: str, advice: str, step: int | None = None) -> Stop:
        """The exception that ends the run early."""
        saved = None if self._checkpoints is None else self._checkpoints.last_step
        directory = None if self._checkpoints is None else self._checkpoints.directory
        return kind(reason, advice, step=self.done if step is None else step, saved=saved, directory=directory)

    def _read(self, leave: int) -> None:
        while len(self._pending) > leave:
            step, metrics, labels = self._pending.popleft()
            values = {name: _scalar(name, value) for name, value in jax.device_get(metrics).items()}
            self._check(step, values, labels)
            self.loss = values["loss"]
            if step % self._log_every == 0 or step == self._steps:
                self._metrics.write(step, values)
                self._time(step)

    def _check(self, step: int, values: Mapping[str, Any], labels: list[np.ndarray]) -> None:
        if "loss" not in values:
            raise InputError(
                f"a step's metrics must hold its loss, but they hold only {', '.join(values) or 'nothing'}"
            )
        wrong = {name: values[name] for name in ("loss", "grad_norm") if not math.isfinite(values.get(name, 0.0))}
        if wrong:
            said = " and ".join(f"the {name} is {value}" for name, value in wrong.items())
            hint = (_hint(labels) if math.isnan(values["loss"]) else "") + _others(values, wrong)
            raise self.stopped(
                NonFiniteLoss,
                f"{said} at step {step}",
                "lower the learning rate, clip the gradient, or look at the batch of that step" + hint,
                step,
            )

    def _time(self, step: int) -> None:
        before, now = self._clock, time.monotonic()
        self._clock = (step, now)
        seconds = now - before[1]
        self._timings.write(step, {"seconds": seconds, "steps_per_second": (step - before[0]) / max(seconds, 1e-9)})


def _labels(batch: Batch) -> list[np.ndarray]:
    """The labels of a batch and its views that are whole numbers on the host."""
    parts = [batch, *(part for part in batch.values() if isinstance(part, Mapping))]
    found = [part["labels"] for part in parts if isinstance(part.get("labels"), np.ndarray)]
    return [labels[labels != _IGNORED] for labels in found if labels.dtype.kind in "iu"]


def _hint(labels: list[np.ndarray]) -> str:
    """What a label that is none of the outputs, which makes the loss NaN, would show in."""
    ends = [f"from {held.min()} to {held.max()}" for held in labels if held.size]
    if not ends:
        return ""
    return f", whose labels run {' and '.join(ends)}: one that is no output of the model makes the loss nan"


def _others(values: Mapping[str, Any], wrong: Mapping[str, Any]) -> str:
    """Which term, or which part of it, such as a schedule, is not finite."""
    names = [name for name, value in values.items() if name not in wrong and not math.isfinite(value)]
    return f"; not finite either: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else ""


def _scalar(name: str, value: Any) -> float:
    if np.ndim(value):
        raise InputError(
            f"a step's metrics are scalars, but {name!r} has shape {np.shape(value)}: reduce it in the step"
        )
    return float(value)
