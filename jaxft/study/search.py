"""For what a grid is too large for: a sampler asks for a batch of runs, and is told what they gave."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.study.grid import Grid, Masked, Scalar, field_types
from jaxft.study.groups import larger_is_better
from jaxft.study.keys import canonical
from jaxft.study.program import Stack
from jaxft.study.runner import run_configs
from jaxft.study.structures import Programs, groups, settings
from jaxft.study.telling import Writer
from jaxft.study.trace import Build

if TYPE_CHECKING:
    import optuna


class Interval(NamedTuple):
    """Numbers between two; made by `uniform` and `log_uniform`."""

    low: float
    high: float
    log: bool


class Choices(NamedTuple):
    """Values one by one; made by `choices`."""

    values: tuple[Scalar, ...]


Space = Mapping[str, Interval | Choices | Masked]


class SearchResult(NamedTuple):
    """What a search found.

    Attributes:
        best: the row of the best trial; None if every one diverged.
        rows: the row of each trial, in the order they were asked for.
        values: what the sampler was told of each; None for a run that diverged.
        study: of Optuna, for its plots and importances.
    """

    best: dict[str, Any] | None
    rows: list[dict[str, Any]]
    values: list[float | None]
    study: optuna.Study


def uniform(low: float, high: float) -> Interval:
    """Any number between two, whole ones for a field that is an int.

    Raises:
        InputError: ``low`` is not below ``high``.

    Example:
        >>> uniform(0, 0.5)
        Interval(low=0, high=0.5, log=False)
    """
    if not low < high:
        raise InputError(f"expected a smaller number and a larger one, got {low} and {high}")
    return Interval(low, high, False)


def log_uniform(low: float, high: float) -> Interval:
    """Any number between two positive ones, each order of magnitude as likely as the next.

    Raises:
        InputError: ``low`` is not positive, or not below ``high``.

    Example:
        >>> log_uniform(1e-5, 1e-2)
        Interval(low=1e-05, high=0.01, log=True)
    """
    if not low > 0:
        raise InputError(f"a logarithmic scale has no {low}: give positive numbers, or use uniform")
    return uniform(low, high)._replace(log=True)


def choices(*values: Scalar) -> Choices:
    """One of these values.

    Raises:
        InputError: there is none.

    Example:
        >>> choices("lora", "full")
        Choices(values=('lora', 'full'))
    """
    if not values:
        raise InputError("choices expects the values to choose from, but got none")
    return Choices(values)


def search(
    build: Build,
    config: Any,
    space: Space,
    *,
    trials: int,
    directory: str | os.PathLike[str],
    metric: str = "accuracy",
    maximise: bool | None = None,
    part: Literal["validation", "test"] = "validation",
    batch: int = 8,
    sampler: optuna.samplers.BaseSampler | None = None,
    seed: int = 0,
    name: str | None = None,
    stack: Stack = "auto",
    memory_limit: int | None = None,
    writers: Sequence[Writer] = (),
    stale: float = 60.0,
) -> SearchResult:
    """Looks for good settings with Optuna; needs ``pip install 'jaxft[search]'``.

    The sampler is asked for ``batch`` settings, their runs are done as those of a grid are, and it is told of all of
    them before it is asked again. Every structure is compiled once. A search that was killed and is called again is
    told of the rows there are, and so asks for the same runs; processes that share a directory share each batch.

    Args:
        build: config -> Experiment.
        config: the settings that are not searched.
        space: a field and `uniform`, `log_uniform`, `choices` or `masked`.
        trials: runs in all.
        directory: of the study that keeps the rows.
        metric: of a row.
        maximise: whether more is better; by the metric's name if None.
        part: the rows it is measured on. What is chosen on test data is no estimate of how well it will do.
        batch: runs before the sampler learns of them; another number leads to other runs.
        sampler: of Optuna, with a seed of its own; the tree-structured Parzen estimator if None.
        seed: of that estimator.
        name: of the study; that of the file of ``build`` if None.
        stack: as `run_study` says, and so the rest.
        memory_limit: bytes.
        writers: each receives the figures of every run this process does.
        stale: seconds.

    Raises:
        InputError: Optuna is missing, the space does not fit the config, the experiment has no such rows, or
            no such metric.

    References:
        Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", 2019.
        Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011.
    """
    optuna = _optuna()
    for number, said in ((trials, "trials"), (batch, "batch")):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{said} is a whole number from 1 up, but is {number!r}")
    distributions = _distributions(optuna, config, space)
    maximise = larger_is_better(metric) if maximise is None else maximise
    chosen = optuna.samplers.TPESampler(seed=seed) if sampler is None else sampler
    study = optuna.create_study(direction="maximize" if maximise else "minimize", sampler=chosen)
    masked = {field: max(values) for field, values in space.items() if isinstance(values, Masked)}
    programs = Programs()
    rows: list[dict[str, Any]] = []
    values: list[float | None] = []
    while len(rows) < trials:
        asked = [study.ask(distributions) for _ in range(min(batch, trials - len(rows)))]
        configs = [dataclasses.replace(config, **trial.params) for trial in asked]
        if not rows:
            _check_part(build, configs[0], space, masked, programs, part)
        done = run_configs(
            build,
            list(dict.fromkeys(configs)),
            axes={field: [getattr(one, field) for one in configs] for field in space},
            masked=masked,
            directory=directory,
            name=name,
            structure=(),
            stack=stack,
            memory_limit=memory_limit,
            writers=writers,
            stale=stale,
            wait=True,
            lanes=batch,
            programs=programs,
            metric=metric,
        )
        found = {canonical(row["config"]): row for row in done}
        for trial, one in zip(asked, configs, strict=True):
            rows.append(found[canonical(settings(one))])
            values.append(_value(rows[-1], part, metric))
            failed = optuna.trial.TrialState.FAIL if values[-1] is None else None
            study.tell(trial, values[-1], state=failed)
    kept = [(value, row) for value, row in zip(values, rows, strict=True) if value is not None]
    best = (max if maximise else min)(kept, key=lambda pair: pair[0], default=(None, None))[1]
    return SearchResult(best, rows, values, study)


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise InputError(f"a search needs Optuna ({error}): pip install 'jaxft[search]'") from error
    return optuna


def _distributions(optuna: ModuleType, config: Any, space: Space) -> dict[str, Any]:
    kinds = field_types(type(config))
    if not space:
        raise InputError('a search needs a space, such as {"lr": log_uniform(1e-5, 1e-2)}, but it is empty')
    found: dict[str, Any] = {}
    for name, values in space.items():
        if name not in kinds:
            raise InputError(f"{name!r} is no field of {type(config).__name__}; {nearest(name, kinds)}")
        if isinstance(values, Interval):
            found[name] = _interval(optuna, name, values, kinds[name])
        elif isinstance(values, Choices | Masked):
            listed = tuple(values.values if isinstance(values, Choices) else values)
            Grid(({name: listed},)).configs(config)  # refuses values that are not of the field's type
            found[name] = optuna.distributions.CategoricalDistribution(listed)
        else:
            raise InputError(
                f"the space of {name!r} is uniform(low, high), log_uniform(low, high), choices(…) or masked(…), "
                f"but is {values!r}"
            )
    return found


def _interval(optuna: ModuleType, name: str, interval: Interval, kind: Any) -> Any:
    low, high, log = interval
    if kind is float:
        return optuna.distributions.FloatDistribution(float(low), float(high), log=log)
    if kind is not int:
        raise InputError(f"{name} is a {getattr(kind, '__name__', kind)}, which has no interval: use choices(…)")
    if not (isinstance(low, int) and isinstance(high, int)):
        raise InputError(f"{name} is an int, so its interval is between whole numbers, but is from {low} to {high}")
    return optuna.distributions.IntDistribution(low, high, log=log)


def _check_part(
    build: Build, config: Any, space: Space, masked: Mapping[str, int], programs: Programs, part: str
) -> None:
    """Refuses data without the rows to choose on, before anything is trained."""
    if part not in ("validation", "test"):
        raise InputError(f"part is 'validation' or 'test', but is {part!r}")
    (group,) = groups([config], masked, (), space)
    if part not in programs.known(build, group, config).labels:
        raise InputError(
            "the experiment has no validation rows, and settings are not chosen on test data, because the choice "
            "would then look better than it is: give it validation rows, or say part='test' and report it so"
        )


def _value(row: Mapping[str, Any], part: str, metric: str) -> float | None:
    """The figure of a run; None if it diverged, or the figure is not finite."""
    figures = row["metrics" if part == "test" else part]
    if metric not in figures:
        raise InputError(f"the rows have no {metric!r}; {nearest(metric, figures)}")
    return None if row["status"] == "diverged" else figures[metric]
