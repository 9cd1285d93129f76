"""The training loop: feeds a step, writes what it says, and loses nothing when it is stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxft.errors import InputError
from jaxft.train.checkpoint import Checkpointer
from jaxft.train.progress import progress_bar
from jaxft.train.recorder import Recorder
from jaxft.train.run import Run
from jaxft.train.sharding import Placement, shard, shard_batch
from jaxft.train.signals import termination
from jaxft.train.stops import Interrupted
from jaxft.types import Batch, Step, StepFrozen, TrainState


class Batches(Protocol):
    """Random access to the batch of each step, so that a resumed run sees the same data."""

    def __getitem__(self, step: int, /) -> Batch:
        """Returns the batch of a step."""


class FitResult(NamedTuple):
    """What a training run ends with.

    Attributes:
        state: the state after the last step.
        history: the lines of ``metrics.jsonl``: dicts with "step", those of evaluations with keys "eval/…".
        seconds: the time this call took, compilation included.
    """

    state: TrainState
    history: list[dict[str, Any]]
    seconds: float


def fit(
    step: Step,
    frozen: StepFrozen,
    state: TrainState,
    batches: Batches,
    *,
    steps: int,
    directory: str | os.PathLike[str] | None = None,
    evaluate: Callable[[StepFrozen, TrainState], Mapping[str, float]] | None = None,
    evaluate_every: int | None = None,
    save_every: int | None = None,
    keep: int = 2,
    best: str | None = None,
    best_mode: Literal["max", "min"] = "max",
    resume: bool = False,
    base: str | None = None,
    config: Any = None,
    placement: Placement | None = None,
    progress: bool = True,
    log_every: int = 10,
) -> FitResult:
    """Trains until ``steps`` updates are made, counting those of a run that is resumed.

    The directory receives ``metrics.jsonl`` (the same bytes for a run that was killed and resumed as for one that was
    not), ``timings.jsonl`` and ``checkpoints/``. Every step's loss and gradient norm are read, a few steps late so that
    the device never waits for the host, and no state is saved before all steps up to it are known to be finite.

    Args:
        step: its ``update`` is compiled here, with the state donated.
        frozen: from ``step.init``.
        state: from ``step.init``; it is copied, so the caller's arrays stay valid.
        batches: ``batches[i]`` is the batch of the step after ``i`` updates.
        steps: the updates in all.
        directory: where the run is written; None writes nothing.
        evaluate: ``evaluate(frozen, state) -> dict``, called after the last step and every ``evaluate_every``.
        evaluate_every: steps between evaluations.
        save_every: steps between checkpoints, by default ``evaluate_every``; the last step is always saved, and so is
            an evaluation that is the best so far.
        keep: how many of the newest checkpoints stay.
        best: the key of ``evaluate``'s dict by which the best checkpoint is kept.
        best_mode: whether its largest ("max") or smallest ("min") value is best.
        resume: continue from the newest whole checkpoint of the directory, or from the start if there is none.
        base: fingerprint of the base model; a checkpoint for another is refused.
        config: the run's configuration, JSON at heart; resuming with another is refused with the differences.
        placement: devices to place frozen, state and batches on; paths begin with "frozen/" and "state/".
        progress: draw a progress bar if the standard error is a terminal.
        log_every: steps between lines of ``metrics.jsonl``.

    Raises:
        InputError: the directory holds another run, a checkpoint does not fit this one, or more than ``steps`` updates
            are made already.
        NonFiniteLoss: a loss or gradient norm is not finite; the step is named.
        Interrupted: SIGTERM came; the step under way was finished, evaluated if that was due, and saved.

    Example:
        >>> def init(key, params, batch):
        ...     state = TrainState(jnp.int32(0), params, (), (), None, (), key)
        ...     return StepFrozen((), ()), state
        >>> def update(frozen, state, batch):
        ...     loss, slope = jax.value_and_grad(lambda w: jnp.mean((w * batch["x"] - batch["y"]) ** 2))(state.delta)
        ...     return state._replace(step=state.step + 1, delta=state.delta - 0.1 * slope), {"loss": loss}
        >>> batches = [{"x": jnp.ones(4), "y": 3 * jnp.ones(4)}] * 50
        >>> frozen, state = init(jax.random.key(0), jnp.float32(0), batches[0])
        >>> result = fit(Step(init, update), frozen, state, batches, steps=50, progress=False)
        >>> round(float(result.state.delta), 3), int(result.state.step)
        (3.0, 50)
    """
    began = time.monotonic()
    _check(steps=steps, log_every=log_every, evaluate_every=evaluate_every, save_every=save_every)
    if best is not None and evaluate is None:
        raise InputError(f"the best checkpoint by {best!r} is asked for, but there is no evaluation: pass evaluate")
    if best_mode not in ("max", "min"):
        raise InputError(f"best_mode is 'max' or 'min', but is {best_mode!r}")
    root = None if directory is None else _open_directory(Path(directory).absolute(), resume)
    update, frozen, state = _prepare(step, frozen, state, placement)
    with (
        closing(Recorder(_own_file(root, "metrics.jsonl"))) as metrics,
        closing(Recorder(_own_file(root, "timings.jsonl"))) as timings,
    ):
        checkpoints = None
        if root is not None:
            checkpoints = Checkpointer(
                root / "checkpoints", keep=keep, best=best, best_mode=best_mode, base=base, config=config
            )
        if checkpoints is not None and resume:
            restored = checkpoints.restore_latest(state)
            state = state if restored is None else restored.state
            for recorder in (metrics, timings):
                recorder.rewind(int(state.step))
        run = Run(update, frozen, state, metrics, timings, checkpoints, log_every=log_every, steps=steps)
        if run.done > steps:
            raise InputError(f"{run.done} updates are made already, more than the {steps} asked for: raise steps")
        with (
            termination() as asked,
            closing(run),
            progress_bar(run.done, steps, shown=progress) as show,
        ):
            while run.done < steps and not asked.is_set():
                batch = batches[run.done]
                run.advance(batch if placement is None else shard_batch(batch, placement))
                show(run.done, run.loss)
                last = run.done == steps
                figures: dict[str, float] = {}
                if evaluate is not None and (last or _due(run.done, evaluate_every)):
                    figures = run.evaluate(evaluate)
                if run.improves(figures, best, best_mode) or last or _due(run.done, save_every or evaluate_every):
                    run.save(figures)
            run.settle()
            if run.done < steps:
                run.save({})
        if asked.is_set():
            raise run.stopped(Interrupted, f"SIGTERM ended the run after step {run.done} of {steps}", "resume to go on")
        return FitResult(run.state, metrics.history, time.monotonic() - began)


def _check(*, steps: int, **intervals: int | None) -> None:
    if steps < 0:
        raise InputError(f"steps counts updates and cannot be negative, but is {steps}")
    for name, value in intervals.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is a number of steps and must be at least 1, but is {value}")


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _open_directory(root: Path, resume: bool) -> Path:
    """Creates the run's directory, or checks that it may be continued."""
    if root.exists() and not root.is_dir():
        raise InputError(f"a run is written to a directory, but {root} is a file: choose another name")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the run's directory {root} cannot be created ({error.strerror}): choose another") from error
    if not os.access(root, os.W_OK):
        raise InputError(f"the run's directory {root} is not writable: choose another")
    lines, checkpoints = root / "metrics.jsonl", root / "checkpoints"
    held = (lines.exists() and lines.stat().st_size > 0) or (checkpoints.is_dir() and any(checkpoints.iterdir()))
    if held and not resume:
        raise InputError(f"{root} already holds a run: resume it, or choose a new directory")
    return root


def _own_file(root: Path | None, name: str) -> Path | None:
    """The file to append to; of several processes only the first writes."""
    return None if root is None or jax.process_index() != 0 else root / name


def _prepare(
    step: Step, frozen: StepFrozen, state: TrainState, placement: Placement | None
) -> tuple[Callable[..., Any], StepFrozen, TrainState]:
    """Compiles the update with its state donated, and copies the state, whose arrays the caller's params may share."""
    state = jax.tree.map(_copy, state)
    if placement is None:
        return jax.jit(step.update, donate_argnums=1), frozen, state
    placed = shard({"frozen": frozen, "state": state}, placement)
    where = jax.tree.map(lambda leaf: leaf.sharding, placed["state"])
    everywhere = NamedSharding(placement.mesh, PartitionSpec())
    update = jax.jit(step.update, donate_argnums=1, out_shardings=(where, everywhere))
    return update, placed["frozen"], placed["state"]


def _copy(leaf: Any) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    return jnp.array(leaf, dtype=leaf.dtype)
