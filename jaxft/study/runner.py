"""Does the runs of a study that nobody has done, and writes a row of each."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.study.claims import Claims
from jaxft.study.grid import Grid, field_types
from jaxft.study.keys import run_key
from jaxft.study.predictions import figure_names
from jaxft.study.program import Stack, make_program
from jaxft.study.revision import Revision, revision, source_file, surroundings
from jaxft.study.row import make_row
from jaxft.study.store import Store
from jaxft.study.structures import Group, Programs, groups, in_words, settings
from jaxft.study.telling import Lasting, Writer, add_and_tell, tell_missed
from jaxft.study.trace import Build, Facts

logger = logging.getLogger(__name__)


class Plan(NamedTuple):
    """A group and what is known of its runs.

    Attributes:
        group: its configs.
        keys: of the runs, in the order of the configs.
        facts: of each masked rank, by its run's key.
    """

    group: Group
    keys: list[str]
    facts: dict[str, Facts]


def run_study(
    build: Build,
    config: Any,
    grid: Grid,
    *,
    directory: str | os.PathLike[str],
    name: str | None = None,
    structure: Collection[str] = (),
    stack: Stack = "auto",
    memory_limit: int | None = None,
    writers: Sequence[Writer] = (),
    stale: float = 60.0,
    wait: bool = True,
    metric: str | None = None,
    equalise: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Does every run of a grid that the directory does not hold yet, and returns the rows of all of them.

    Several processes, on one machine or many, may call it on one directory: each takes runs that nobody has taken. A
    run that was killed is done again by whoever comes next.

    Args:
        build: config -> Experiment; called under a trace, with a tracer for the seed and for every float that varies.
        config: the settings that no axis names.
        grid: of settings.
        directory: of the study; see `Store`.
        name: of the study; that of the file of ``build`` if None.
        structure: names of floats that ``build`` needs as plain numbers.
        stack: as `compile_program` says.
        memory_limit: likewise.
        writers: each receives the figures of every point of every run this process does, and of those that a killed one
            left untold.
        stale: seconds without a sign of life after which the runs of another process are taken over.
        wait: for the runs that other processes do.
        metric: that will be compared; refused before the first run if the runs will not have it.
        equalise: settings that will be chosen on validation rows; refused likewise if there are none.

    Raises:
        InputError: the settings, the directory or what ``build`` returns are not as expected.
    """
    return run_configs(
        build,
        grid.configs(config),
        axes=grid.axes,
        parts=grid.parts,
        masked=grid.masked,
        directory=directory,
        name=name,
        structure=structure,
        stack=stack,
        memory_limit=memory_limit,
        writers=writers,
        stale=stale,
        wait=wait,
        metric=metric,
        equalise=equalise,
    )


def run_configs(
    build: Build,
    configs: Sequence[Any],
    *,
    axes: Mapping[str, Sequence[Any]],
    masked: Mapping[str, int],
    directory: str | os.PathLike[str],
    name: str | None,
    structure: Collection[str],
    stack: Stack,
    memory_limit: int | None,
    writers: Sequence[Writer],
    stale: float,
    wait: bool,
    lanes: int | None = None,
    programs: Programs | None = None,
    sources: Revision | None = None,
    parts: Sequence[Mapping[str, Sequence[Any]]] = (),
    metric: str | None = None,
    equalise: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Does runs that are listed one by one; what is not explained here is as in `run_study`.

    Args:
        build: config -> Experiment.
        configs: of the runs.
        axes: the settings that vary, in these runs or in later ones, and their values in these.
        masked: name -> the largest rank.
        directory: of the study.
        name: of the study.
        structure: names of floats that ``build`` needs as plain numbers.
        stack: as `compile_program` says.
        memory_limit: likewise.
        writers: each receives the figures of every run.
        stale: seconds.
        wait: for the runs that other processes do.
        lanes: runs side by side; as many as there are if None.
        programs: compiled by earlier calls with the same build; those of this call are added.
        sources: of ``build``; looked for if None.
        parts: the axes of each part of the grid.
        metric: that will be compared.
        equalise: settings that will be chosen on validation rows.
    """
    kept = programs is not None
    programs = Programs() if programs is None else programs
    sources = revision(build) if sources is None else sources
    plans = [_plan(build, group, sources, programs) for group in groups(configs, masked, structure, axes)]
    chosen = [name for name in equalise if len({getattr(config, name) for config in configs}) > 1]
    for facts in {id(facts): facts for plan in plans for facts in plan.facts.values()}.values():
        _check_measured(facts, metric, chosen)
    planned = _planned(plans)
    title = source_file(build).stem if name is None else name
    fields = list(field_types(type(configs[0])))
    store = Store.open(directory, name=title, fields=fields, axes=axes, planned=planned, parts=parts)
    sources.keep(Path(directory))
    lasting = [Lasting(writer) for writer in writers]
    options: dict[str, Any] = {"stack": stack, "memory_limit": memory_limit, "lanes": lanes}
    logger.info("%d runs in %d groups, %d done", len(planned), len(plans), len(planned.keys() & store.finished()))
    with Claims(directory, stale=stale) as claims:
        while missing := planned.keys() - store.finished():
            done = 0
            for plan in plans:
                done += _work(build, plan, sources, store, claims, options, lasting, programs)
                if not kept:  # a program holds its base and data on the device
                    programs.compiled.clear()
            if not done and planned.keys() - store.finished() == missing:
                if not wait:
                    break
                time.sleep(min(1.0, stale / 6))
        tell_missed(store, claims, lasting)
        claims.sweep(store.finished())
    return [row for row in store.rows() if row["key"] in planned]


def keys_of(
    build: Build,
    configs: Sequence[Any],
    axes: Mapping[str, Sequence[Any]],
    masked: Mapping[str, int],
    structure: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """The key of each run as it would be done now, and its settings; the arguments are those of `run_configs`."""
    sources, programs = revision(build), Programs()
    plans = [_plan(build, group, sources, programs) for group in groups(configs, masked, structure, axes)]
    return _planned(plans)


def _planned(plans: Sequence[Plan]) -> dict[str, dict[str, Any]]:
    return {key: settings(c) for plan in plans for key, c in zip(plan.keys, plan.group.configs, strict=True)}


def _plan(build: Build, group: Group, sources: Revision, programs: Programs) -> Plan:
    keys, of_run = [], {}
    for config in group.configs:
        known = programs.known(build, group, config)
        key = run_key(settings(config), code=sources.code, base=known.base, built=known.built, data=known.data)
        keys.append(key)
        of_run[key] = known
    return Plan(group, keys, of_run)


def _check_measured(facts: Facts, metric: str | None, equalise: Sequence[str]) -> None:
    """Refuses a comparison that the rows could not give.

    Raises:
        InputError: there is no such metric, or there are no validation rows to choose on.
    """
    if equalise and "validation" not in facts.labels:
        raise InputError(
            f"{equalise[0]} is to be chosen on validation rows, but the experiment has none, and settings are never "
            "chosen on test data: give its data validation rows, or leave equalise out"
        )
    names = figure_names(facts.labels["test"], facts.task) if metric else []
    if metric and metric not in names:
        raise InputError(f"the runs have no metric {metric!r}; {nearest(metric, names)}")


def _work(
    build: Build,
    plan: Plan,
    sources: Revision,
    store: Store,
    claims: Claims,
    options: Mapping[str, Any],
    writers: Sequence[Lasting],
    programs: Programs,
) -> int:
    """Does what nobody has done or does of a group; returns how many runs."""
    configs = dict(zip(plan.keys, plan.group.configs, strict=True))
    program = programs.compiled.get(plan.group.structure)
    done = 0
    while True:
        taken = _take(configs, store, claims, 1 if program is None else program.at_once)
        if not taken:
            return done
        if program is None:
            logger.info("preparing %d runs of %s", len(configs), in_words(plan.group))
            program = make_program(
                build,
                configs[taken[0]],
                plan.group.names,
                plan.group.masked,
                plan.facts[taken[0]],
                **{**options, "lanes": options["lanes"] or len(configs)},
            )
            programs.compiled[plan.group.structure] = program
            taken += _take([key for key in configs if key not in taken], store, claims, program.at_once - len(taken))
        mine = [key for key in taken if not store.has(key)]  # of which others may have finished some meanwhile
        if mine:
            began = datetime.now(UTC).isoformat(timespec="seconds")
            outcomes, seconds = program.run([_values(configs[key], plan.group.names) for key in mine])
            where = surroundings(source_file(build))
            for place, (key, outcome) in enumerate(zip(mine, outcomes, strict=True)):
                share, lane = seconds / len(mine), place % program.lanes
                row = make_row(key, settings(configs[key]), outcome, plan.facts[key], program, share, lane)
                row["program"]["masked"] = plan.group.masked
                row["provenance"] |= {"code": sources.code, "script": sources.script, "build": sources.build}
                row["provenance"]["config"] = _class_name(type(configs[key]), build)
                row["provenance"] |= where | {"started": began}
                add_and_tell(store, writers, row)
            known = len(configs.keys() & store.known)
            logger.info("%d of %d done, %.2g s each", known, len(configs), seconds / len(mine))
        claims.release(taken)
        done += len(mine)


def _take(keys: Iterable[str], store: Store, claims: Claims, most: int) -> list[str]:
    """Claims runs that have no row, and looks at no more of them than it must."""
    taken: list[str] = []
    for key in keys:
        if len(taken) == most:
            break
        if not store.has(key):
            taken += claims.take([key])
    return taken


def _values(config: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _class_name(config: type, build: Build) -> str:
    """The class of settings as ``module:name``; beside ``build``, whose file may run under another name, the name."""
    beside = config.__module__ == build.__module__
    return config.__qualname__ if beside else f"{config.__module__}:{config.__qualname__}"
