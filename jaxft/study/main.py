"""A script as a study: its settings are flags, axes of a grid and columns of a table at once."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from jaxft.errors import InputError, nearest
from jaxft.study.flags import default_of, read_flags, with_values
from jaxft.study.grid import Grid, field_types
from jaxft.study.listing import list_runs
from jaxft.study.report import SEED, Layout, write_report
from jaxft.study.revision import source_file
from jaxft.study.runner import run_study
from jaxft.study.structures import settings
from jaxft.study.telling import Writer
from jaxft.study.trace import Build
from jaxft.train import enable_compile_cache

_MIB = 2**20


def main(
    config: type,
    build: Build,
    grid: Grid | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    metric: str | None = None,
    maximise: bool | None = None,
    equalise: Collection[str] = (),
    structure: Collection[str] = (),
    writers: Sequence[Writer] = (),
    stale: float = 60.0,
    arguments: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Runs a study as the command line says, and leaves tables, figures and a page in ``directory/report``.

    Every field of the settings is a flag that takes one or more values, ``--rank 1 4 16``, in place of those of the
    grid. Runs that the directory holds are not done again; processes that share it share the runs. What a person can
    get wrong is said in one sentence, and the process ends with code 2.

    Args:
        config: a frozen dataclass; its fields are the settings.
        build: config -> Experiment, a function of a module; called under a trace, with a tracer for the seed and for
            every float that varies.
        grid: what is run if no flag says otherwise.
        directory: of the study; ``results/<name of the script>`` beside the script if None.
        metric: what the table compares; if None, perplexity of a language model, otherwise accuracy.
        maximise: whether a larger metric is better; None decides by its name.
        equalise: settings, such as ``["lr"]``, of which every group keeps its own best by the validation rows.
        structure: names of floats that ``build`` needs as plain numbers.
        writers: each receives the figures of every point of every run this process does, and of those that a killed one
            left untold.
        stale: seconds without a sign of life after which the runs of another process are taken over.
        arguments: the words of the command; those of this process if None.

    Returns:
        The rows of the grid's runs; none after ``--list``.

    Example:
        >>> import tempfile
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Config:
        ...     lr: float = 0.1
        >>> words = ["--lr", "1e-3", "1e-2", "--directory", tempfile.mkdtemp(), "--list"]
        >>> main(Config, lambda config: None, arguments=words)
        lr     state
        0.001  missing
        0.01   missing
        []
    """
    try:
        whole = Grid(({},)) if grid is None else grid
        described = getattr(inspect.getmodule(build), "__doc__", None) or "Runs a study."
        flags = read_flags(config, whole, description=described, arguments=arguments)
        options = flags.options
        script = source_file(build)
        place = Path(options.directory or directory or script.parent / "results" / script.stem)
        chosen = with_values(whole, flags.values)
        names = field_types(config)
        equal = _known("equalise", equalise if options.equalise is None else options.equalise, names)
        plain = _known("structure", (*structure, *options.structure), names)
        start = _start(config, chosen)
        if options.list:
            list_runs(build, start, chosen, place, plain)
            return []
        enable_compile_cache()
        named = options.metric or metric
        how: dict[str, Any] = {"stack": options.stack, "wait": not options.no_wait, "writers": writers, "stale": stale}
        how |= {"metric": named, "equalise": equal}
        if options.memory_limit is not None:
            if options.memory_limit < 1:
                raise InputError(
                    f"--memory-limit expects a whole number of MiB from 1 up, but got {options.memory_limit}"
                )
            how["memory_limit"] = options.memory_limit * _MIB
        with _told():
            rows = run_study(build, start, chosen, directory=place, structure=plain, **how)
        _report(rows, start, chosen, place, Layout(script.stem, (), named, equal, maximise))
        return rows
    except InputError as error:
        _end(2, str(error))
    except KeyboardInterrupt:
        _end(130, "interrupted; the same command goes on from here")


def _report(rows: Sequence[dict[str, Any]], start: Any, grid: Grid, place: Path, layout: Layout) -> None:
    configs = [settings(config) for config in grid.configs(start)]
    if len(rows) < len(configs):
        print(
            f"{len(rows)} of {len(configs)} runs are done, others do the rest: there is no table yet", file=sys.stderr
        )
        return
    apart = {SEED, *layout.equalise}
    by = tuple(name for name in configs[0] if name not in apart and len({repr(c[name]) for c in configs}) > 1)
    table = write_report([_applying(row, grid, start) for row in rows], place, layout._replace(by=by))
    print(table)
    print(f"{place / 'report'} has it for LaTeX and CSV, figures, and index.html to browse", file=sys.stderr)


def _applying(row: dict[str, Any], grid: Grid, start: Any) -> dict[str, Any]:
    """The row without the settings that mean nothing to it: axes of other parts of the grid than its own."""
    config, defaults = row["config"], settings(start)
    own = [part for part in grid.parts if all(config[name] in part.get(name, (defaults[name],)) for name in config)]
    named = {name for part in own for name in part}
    return {**row, "config": {n: None if n in grid.axes and n not in named else v for n, v in config.items()}}


def _start(config: type, grid: Grid) -> Any:
    """The settings that no axis names; a field without a default has the first value of its axis.

    Raises:
        InputError: a field has neither.
    """
    given: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if default_of(field) is dataclasses.MISSING:
            if any(field.name not in part for part in grid.parts):
                raise InputError(f"{field.name} has no default: say --{field.name.replace('_', '-')}")
            given[field.name] = grid.axes[field.name][0]
    return config(**given)


def _known(option: str, given: Collection[str], names: Mapping[str, Any]) -> tuple[str, ...]:
    for name in given:
        if name not in names:
            raise InputError(f"{option} names {name!r}, which is no field of the settings; {nearest(name, names)}")
    return tuple(given)


@contextmanager
def _told() -> Iterator[None]:
    """Shows on stderr what the study says of its progress."""
    logger = logging.getLogger("jaxft.study")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


def _end(code: int, sentence: str) -> NoReturn:
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr)
    raise SystemExit(code)
