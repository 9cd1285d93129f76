"""Which method is best, and which are not shown to be worse, over the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxft.errors import InputError
from jaxft.study.groups import Group, Row, direction, grouped, show, value_of
from jaxft.study.statistics import (
    ENOUGH,
    check_test,
    holm,
    interval_kind,
    mean,
    mean_interval,
    paired_test,
    standard_deviation,
)


class Run(NamedTuple):
    """One run of a compared group: its seed, its row's key, its metric (None if it diverged), whether it counts."""

    seed: Any
    key: str
    value: float | None
    counted: bool


class Compared(NamedTuple):
    """One group and how it stands.

    Attributes:
        name: such as "lora, rank 8".
        by: value of each field that sets the groups apart.
        runs: all of its runs, by seed.
        mean: over the runs that count; None where there are none.
        std: with n − 1; None of fewer than two runs.
        interval: 95 % of the mean; None of fewer than two runs.
        p: of "no difference from the best"; None of the best itself and of groups that are not tested.
        adjusted_p: the same after Holm's correction.
        best_or_equal: the best, or not significantly different from it.
        chosen: settings picked on validation data.
        edges: those of them that are the smallest or largest tried.
    """

    name: str
    by: dict[str, Any]
    runs: tuple[Run, ...]
    mean: float | None
    std: float | None
    interval: tuple[float, float] | None
    p: float | None
    adjusted_p: float | None
    best_or_equal: bool
    chosen: dict[str, Any]
    edges: tuple[str, ...]

    @property
    def values(self) -> dict[Any, float]:
        """Metric of each seed that counts."""
        return {run.seed: run.value for run in self.runs if run.counted and run.value is not None}

    @property
    def n(self) -> int:
        """How many runs count."""
        return len(self.values)

    @property
    def diverged(self) -> int:
        """How many runs diverged."""
        return sum(run.value is None for run in self.runs)


class Comparison(NamedTuple):
    """Groups in order, with what a reader must know of how they were compared.

    Attributes:
        groups: numbers ascending, everything else as it first appears in the rows.
        by: the fields that set them apart.
        metric: compared on test data.
        over: the field that repeats a run.
        maximise: whether larger is better.
        test: name of the paired test, or None if nothing was tested.
        level: at which a difference counts.
        seeds: those of every group that did not diverge.
        equalise: the fields chosen for each group on validation data.
        notes: sentences a table has to carry.
        interval: ``"t"`` or ``"bootstrap"``, the kind of every group's interval.
    """

    groups: tuple[Compared, ...]
    by: tuple[str, ...]
    metric: str
    over: str
    maximise: bool
    test: str | None
    level: float
    seeds: tuple[Any, ...]
    equalise: tuple[str, ...]
    notes: tuple[str, ...]
    interval: str


def compare(
    rows: Sequence[Row],
    *,
    by: Sequence[str] = ("method",),
    metric: str = "accuracy",
    over: str = "seed",
    maximise: bool | None = None,
    test: str | None = "t",
    level: float = 0.05,
    equalise: Sequence[str] = (),
    interval: str | None = None,
) -> Comparison:
    """Compares groups of runs over the seeds that all of them have.

    The best group is that with the best mean. Each other group is tested against it, paired by seed, and Holm's
    correction is made over these tests; a group is ``best_or_equal`` unless its adjusted p is at or below ``level``.
    That says "not shown to be worse", which is less than "as good": with few seeds little can be shown.

    A group with a run that diverged (its status says so, or its metric is not finite) is shown with the mean of the
    others and named in a note, but it is neither tested nor ever best: a mean without its failures flatters it.

    With ``equalise=("lr",)`` every group is given its own best learning rate, chosen by the mean validation metric.

    Args:
        rows: of a study; see :func:`jaxft.study.groups.grouped` for how they are sorted.
        by: fields of the configuration that set groups apart.
        metric: name of a test metric.
        over: the field that repeats a run.
        maximise: whether larger is better; None decides by the name: losses, errors, perplexities, costs and times are
            smaller when better, accuracies, F1 and correlations larger. A name that says neither is refused.
        test: ``"t"``, ``"permutation"``, ``"wilcoxon"``, or None for means alone, where only the best mean is marked.
        level: at which a difference counts as one.
        equalise: fields chosen for each group on validation data.
        interval: ``"t"`` or ``"bootstrap"``, both at 95 %; None takes Student's t where a group has fewer than 20 runs
            that count, of which the bootstrap's interval is too narrow, and the bootstrap otherwise.

    Raises:
        InputError: no rows, an unknown field, metric, test or interval, a metric whose better direction is unknown,
            a group with several rows for one seed, no validation metric to choose by, or fewer than two
            common seeds for a test.

    Example:
        >>> accuracy = {"full": (0.90, 0.92, 0.91), "lora": (0.89, 0.93, 0.90), "head": (0.70, 0.72, 0.75)}
        >>> rows = [
        ...     {"key": "", "config": {"method": method, "seed": seed}, "metrics": {"accuracy": value}}
        ...     for method, values in accuracy.items()
        ...     for seed, value in enumerate(values)
        ... ]
        >>> [(group.name, round(group.mean, 2), group.best_or_equal) for group in compare(rows).groups]
        [('full', 0.91, True), ('lora', 0.91, True), ('head', 0.72, False)]

    References:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
        Dror et al., "The Hitchhiker's Guide to Testing Statistical Significance in Natural Language Processing", 2018.
        Dodge et al., "Show Your Work: Improved Reporting of Experimental Results", 2019.
    """
    by, equalise = tuple(by), tuple(equalise)
    if test is not None:
        check_test(test)
    if not 0 < level < 1:
        raise InputError(f"level is a share between 0 and 1, such as 0.05, but {level} was given")
    maximise = direction(rows, metric, maximise)
    groups = grouped(rows, by=by, metric=metric, over=over, maximise=maximise, equalise=equalise)
    values = [{seed: value_of(row, metric) for seed, row in group.rows.items()} for group in groups]
    sound = [runs for runs in values if None not in runs.values()]
    common = [seed for seed in (sound[0] if sound else ()) if all(seed in runs for runs in sound)]
    if sound and not common:
        raise InputError(f"the groups have no {over} in common, so that nothing can be compared: run the rest of them")
    if test is not None and len(sound) > 1 and len(common) < 2:
        raise InputError(
            f"a paired test needs at least two common {over}s, but the groups share only {over} {show(common[0])}: "
            "run more, or say test=None for means alone"
        )
    counts = [len(common)] if sound else []
    counts += [sum(value is not None for value in runs.values()) for runs in values if None in runs.values()]
    kind = interval_kind(interval, min(count for count in [*counts, ENOUGH] if count > 1))
    compared = [_describe(group, runs, common, kind) for group, runs in zip(groups, values, strict=True)]
    return Comparison(
        groups=tuple(_rank(compared, maximise, test, level)),
        by=by,
        metric=metric,
        over=over,
        maximise=maximise,
        test=test if len(sound) > 1 else None,
        level=level,
        seeds=tuple(common),
        equalise=equalise,
        notes=tuple(_notes(groups, compared, common, over)),
        interval=kind,
    )


def _describe(group: Group, values: dict[Any, float | None], common: Sequence[Any], kind: str) -> Compared:
    diverged = None in values.values()
    runs = tuple(
        Run(seed, str(group.rows[seed].get("key", "")), value, value is not None and (diverged or seed in common))
        for seed, value in values.items()
    )
    counted = [run.value for run in runs if run.counted and run.value is not None]
    return Compared(
        name=group.name,
        by=group.by,
        runs=runs,
        mean=mean(counted) if counted else None,
        std=standard_deviation(counted) if counted else None,
        interval=mean_interval(counted, kind=kind) if counted else None,
        p=None,
        adjusted_p=None,
        best_or_equal=False,
        chosen=group.chosen,
        edges=group.edges,
    )


def _rank(groups: list[Compared], maximise: bool, test: str | None, level: float) -> list[Compared]:
    """Marks the best mean and, by the test, what is not significantly different from it."""
    means = {place: group.mean for place, group in enumerate(groups) if not group.diverged and group.mean is not None}
    if not means:
        return groups
    best = max(means, key=lambda place: means[place] if maximise else -means[place])
    ranked = list(groups)
    ranked[best] = groups[best]._replace(best_or_equal=True)
    others = [place for place in means if place != best]
    if test is None:
        return ranked
    first = groups[best].values
    p_values = []
    for place in others:
        values = groups[place].values
        p_values.append(paired_test([values[seed] for seed in first], list(first.values()), test=test))
    for place, p, adjusted in zip(others, p_values, holm(p_values), strict=True):
        ranked[place] = groups[place]._replace(p=p, adjusted_p=adjusted, best_or_equal=adjusted > level)
    return ranked


def _notes(groups: Sequence[Group], compared: Sequence[Compared], common: Sequence[Any], over: str) -> list[str]:
    notes = []
    for result in compared:
        if result.diverged == len(result.runs):
            notes.append(f"{result.name}: all of its {len(result.runs)} runs diverged, and it is not compared.")
        elif result.diverged:
            notes.append(
                f"{result.name}: {result.diverged} of {len(result.runs)} runs diverged; its figures are of the others, "
                "and it is not compared."
            )
        elif left := [show(run.seed) for run in result.runs if not run.counted]:
            noun = over if len(left) == 1 else f"{over}s"
            notes.append(f"{result.name}: {noun} {', '.join(left)} left out, for not every group has them.")
    for group in groups:
        if group.tried > 1:
            notes += _choice_notes(group, over)
        for field in group.edges:
            notes.append(
                f"{group.name}: the chosen {field} {show(group.chosen[field])} lies at the edge of the values tried; "
                "one beyond may be better."
            )
        if group.mixed:
            verb = "differs" if len(group.mixed) == 1 else "differ"
            notes.append(f"{group.name}: {', '.join(group.mixed)} {verb} between its {over}s.")
    if len({group.tried for group in groups}) > 1:
        counts = ", ".join(f"{group.name} {group.tried}" for group in groups)
        notes.append(f"Not every group chose among equally many settings: {counts}.")
    return notes


def _choice_notes(group: Group, over: str) -> list[str]:
    """What a reader must know of the settings that were tried for a group."""
    notes = []
    if group.diverged:
        notes.append(f"{group.name}: of all settings tried, {group.diverged} of {group.runs} runs diverged.")
    if group.runs != group.tried * len(group.shared):
        noun = over if len(group.shared) == 1 else f"{over}s"
        notes.append(
            f"{group.name}: its settings were not all tried with the same {over}s; they share "
            f"{len(group.shared)} {noun} to choose by."
        )
    return notes
