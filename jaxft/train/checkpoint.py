"""Checkpoints: asynchronous, atomic, verified when read, and only of what learned."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxft.errors import InputError, nearest
from jaxft.train.manifest import (
    Damaged,
    Manifest,
    as_json,
    describe_leaves,
    differences,
    read_manifest,
    verify_files,
    write_manifest,
)
from jaxft.trees import leaf_paths, map_with_path
from jaxft.types import TrainState

logger = logging.getLogger("jaxft")
_ARRAYS = "state"


class Restored(NamedTuple):
    """A checkpoint read back: the state, bit for bit, and what its manifest says."""

    state: TrainState
    manifest: Manifest


class Checkpointer:
    """Keeps the last few and the best states of a run in a directory, one sub-directory a step.

    Saving returns as soon as the arrays are copied to the host; writing goes on in the background. A checkpoint
    counts from the moment its manifest, written last and atomically, is there.

    Args:
        directory: where the checkpoints are; created if need be.
        keep: how many of the newest to keep.
        best: the evaluation metric by which one more is kept, or None.
        best_mode: "max" or "min": which value of the metric is best; among equals the earliest.
        base: the fingerprint of the base model; a checkpoint for another is refused.
        config: the run's configuration; a checkpoint with another is refused. None compares nothing.

    Raises:
        InputError: ``keep`` is less than one.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep: int = 2,
        best: str | None = None,
        best_mode: Literal["max", "min"] = "max",
        base: str | None = None,
        config: Any = None,
    ):
        if keep < 1:
            raise InputError(f"at least one checkpoint must be kept, but keep is {keep}")
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._keep, self._base, self._config = keep, base, as_json(config)
        self._best = None if best is None else [best, best_mode]
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self.last_step: int | None = max(_finished(self.directory), default=None)

    def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
        """Starts writing a checkpoint, once the one before is written.

        Args:
            state: the state after an update; its buffers may be donated as soon as this returns.
            metrics: those of the evaluation of this state.
        """
        from orbax.checkpoint import v1

        self.wait()
        step = int(state.step)
        if step == self.last_step:
            return
        directory = self.directory / _name(step)
        if jax.process_index() == 0:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
        writing = v1.save_async(directory / _ARRAYS, _storable(state))
        manifest = Manifest(step, dict(metrics or {}), self._base, self._config, describe_leaves(state), self._best)
        self._pending = self._writer.submit(self._finish, writing, directory, manifest)
        self.last_step = step

    def _finish(self, writing: Any, directory: Path, manifest: Manifest) -> None:
        writing.result()
        if jax.process_index() == 0:
            write_manifest(directory, manifest)
            self._prune()

    def wait(self) -> None:
        """Waits for the checkpoint under way; an error in writing it is raised here."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Waits for the checkpoint under way and ends the background thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def best_value(self) -> float | None:
        """The best value of the chosen metric among the checkpoints, or None."""
        self.wait()
        manifests = _manifests(self.directory)
        step = _best_step(manifests, self._best)
        return None if step is None or self._best is None else manifests[step].metrics[self._best[0]]

    def restore_latest(self, like: TrainState) -> Restored | None:
        """Reads the newest whole checkpoint and removes what lies after it; None when none was ever finished.

        Damaged and partial checkpoints are reported through the logger "jaxft" and the previous one is used.

        Args:
            like: a state of the same structure, such as ``step.init`` gives; arrays are placed as its are.

        Raises:
            InputError: all checkpoints are damaged, or the one found is of another base, configuration or structure.
        """
        self.wait()
        damaged: list[Path] = []
        for step in sorted(_steps(self.directory), reverse=True):
            directory = self.directory / _name(step)
            try:
                manifest = read_manifest(directory)
                verify_files(directory)
            except Damaged as reason:
                logger.warning("the checkpoint %s is not used: %s; trying the previous one", directory, reason)
                damaged.append(directory)
                continue
            self._refuse_foreign(directory, manifest)
            state = _load(directory, manifest, like)
            if jax.process_index() == 0:
                for later in damaged:
                    shutil.rmtree(later)
            self.last_step = step
            return Restored(state, manifest)
        if _finished(self.directory):
            raise InputError(
                f"every checkpoint in {self.directory} is damaged: restore them from a copy, "
                "or start again in a new directory"
            )
        return None

    def _refuse_foreign(self, directory: Path, manifest: Manifest) -> None:
        _refuse_other_base(directory, manifest, self._base)
        if self._config is not None and manifest.config is not None:
            changed = differences(manifest.config, self._config)
            if changed:
                raise InputError(
                    f"the run in {directory.parent.parent} was started with another configuration ("
                    + "; ".join(changed)
                    + "): resume with the same one, or start in a new directory"
                )

    def _prune(self) -> None:
        """Removes what is neither among the newest nor the best; the manifest goes first, so that half is not whole."""
        manifests = _manifests(self.directory)
        kept = {*sorted(manifests)[-self._keep :], _best_step(manifests, self._best)}
        for step in _steps(self.directory) - kept:
            directory = self.directory / _name(step)
            if step < max(manifests):
                (directory / "manifest.json").unlink(missing_ok=True)
                shutil.rmtree(directory)


def restore(
    directory: str | os.PathLike[str],
    like: TrainState,
    *,
    which: Literal["last", "best"] | int = "last",
    base: str | None = None,
) -> Restored:
    """Reads one checkpoint of a run and changes nothing.

    Args:
        directory: the directory of checkpoints.
        like: a state of the same structure, such as ``step.init`` gives; arrays are placed as its are.
        which: "last", "best" by the metric the run was told to keep, or a step.
        base: the fingerprint of the base model, compared when given.

    Raises:
        InputError: there is no such checkpoint, it is damaged, or it is of another base or structure.
    """
    root = Path(directory).absolute()
    manifests = _manifests(root)
    if not manifests:
        raise InputError(f"there is no finished checkpoint in {root}")
    if which == "best":
        step = _best_step(manifests, manifests[max(manifests)].best)
        if step is None:
            raise InputError(f"the run in {root} kept no best checkpoint: ask for the last one")
    else:
        step = max(manifests) if which == "last" else which
    if step not in manifests:
        raise InputError(f"there is no checkpoint of step {step} in {root}; {nearest(str(step), map(str, manifests))}")
    path = root / _name(step)
    try:
        verify_files(path)
    except Damaged as reason:
        raise InputError(f"the checkpoint {path} is damaged: {reason}; ask for another one") from None
    _refuse_other_base(path, manifests[step], base)
    return Restored(_load(path, manifests[step], like), manifests[step])


def _refuse_other_base(directory: Path, manifest: Manifest, base: str | None) -> None:
    if base is not None and manifest.base is not None and base != manifest.base:
        raise InputError(
            f"the checkpoint {directory} belongs to the base model with fingerprint {manifest.base}, "
            f"but this one has {base}: load the base model it was trained on"
        )


def _load(directory: Path, manifest: Manifest, like: TrainState) -> TrainState:
    from orbax.checkpoint import v1

    changed = differences(manifest.leaves, describe_leaves(like))
    if changed:
        shown = "; ".join(changed[:5]) + ("" if len(changed) <= 5 else f"; and {len(changed) - 5} more")
        raise InputError(f"the checkpoint {directory} holds other arrays than this run: {shown}")
    wanted = {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        for path, leaf in _storable(like).items()
    }
    arrays = v1.load(directory / _ARRAYS, wanted)
    return map_with_path(lambda path, leaf: _as_leaf(arrays.get(path), leaf), like)


def _storable(state: TrainState) -> dict[str, jax.Array]:
    """The arrays by path, random keys as the integers they are; empty arrays hold nothing to store."""
    arrays = {path: _key_data(jnp.asarray(leaf)) for path, leaf in leaf_paths(state).items()}
    return {path: array for path, array in arrays.items() if array.size}


def _key_data(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _as_leaf(array: Any, like: Any) -> Any:
    if array is None:
        return like
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
    return array


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _steps(directory: Path) -> set[int]:
    names = (entry.name.removeprefix("step_") for entry in directory.glob("step_*"))
    return {int(name) for name in names if name.isdecimal()}


def _finished(directory: Path) -> set[int]:
    return {step for step in _steps(directory) if (directory / _name(step) / "manifest.json").exists()}


def _manifests(directory: Path) -> dict[int, Manifest]:
    found = {}
    for step in _finished(directory):
        try:
            found[step] = read_manifest(directory / _name(step))
        except Damaged as reason:
            logger.warning("the checkpoint %s is not counted: %s", directory / _name(step), reason)
    return found


def _best_step(manifests: Mapping[int, Manifest], best: list[str] | None) -> int | None:
    if best is None:
        return None
    metric, mode = best
    sign = 1 if mode == "max" else -1
    values = {step: manifest.metrics.get(metric, math.nan) for step, manifest in manifests.items()}
    scores = {step: sign * value for step, value in values.items() if math.isfinite(value)}
    return max(scores, key=lambda step: (scores[step], -step), default=None)
