"""The runs of a grid on the nodes of a Ray cluster, which share the directory of the study."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxft.errors import InputError
from jaxft.study.grid import Grid
from jaxft.study.program import Stack
from jaxft.study.revision import package_hash, revision, source_file
from jaxft.study.runner import run_configs
from jaxft.study.trace import Build

_RETRIES = 10
"""How often a worker is started anew where there is room; its runs are done by the others meanwhile."""


def run_on_ray(
    build: Build,
    config: Any,
    grid: Grid,
    *,
    directory: str | os.PathLike[str],
    workers: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    name: str | None = None,
    structure: Collection[str] = (),
    stack: Stack = "auto",
    memory_limit: int | None = None,
    stale: float = 30.0,
) -> list[dict[str, Any]]:
    """Does the runs of a grid on a Ray cluster; needs ``pip install 'jaxft[ray]'``.

    Every worker does what `run_study` does, on the directory they share. The runs of a node that dies are taken over
    by the others once it gave no sign of life for ``stale`` seconds, so that each run has one row whatever happens.

    Args:
        build: config -> Experiment.
        config: the settings that no axis names.
        grid: of settings.
        directory: of the study, by a path that means the same place on every node.
        workers: processes; one a node if None.
        num_cpus: that a worker takes of its node.
        num_gpus: likewise.
        name: of the study; that of the file of ``build`` if None.
        structure: as `run_study` says, and so the rest.
        stack: see there.
        memory_limit: bytes.
        stale: seconds.

    Returns:
        The rows of the grid.

    Raises:
        InputError: Ray is missing, a node has other sources of jaxft, or `run_study` would refuse.

    References:
        Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", 2018.
    """
    ray = _ray()
    options: dict[str, Any] = {
        "axes": grid.axes,
        "parts": grid.parts,
        "masked": grid.masked,
        "directory": str(Path(directory).resolve()),
        "name": source_file(build).stem if name is None else name,
        "structure": tuple(structure),
        "stack": stack,
        "memory_limit": memory_limit,
        "stale": stale,
        "sources": revision(build),
    }
    ours = not ray.is_initialized()
    if ours:
        ray.init()
    try:
        count = sum(node["Alive"] for node in ray.nodes()) if workers is None else workers
        limits = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": _RETRIES, "scheduling_strategy": "SPREAD"}
        task = ray.remote(**limits)(_work)
        tasks = [task.remote(package_hash(), build, grid.configs(config), options) for _ in range(count)]
        return ray.get(tasks)[0]
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from error
        raise
    finally:
        if ours:
            ray.shutdown()


def _work(sources: str, build: Build, configs: list[Any], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a worker does, in a process of its own on some node."""
    if package_hash() != sources:
        raise InputError("a node of the cluster has other sources of jaxft than the script that started: install these")
    return run_configs(build, configs, writers=(), wait=True, **options)


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise InputError(f"a cluster needs Ray ({error}): pip install 'jaxft[ray]'") from error
    return ray
