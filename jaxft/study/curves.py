"""How a metric grows with an axis: labelled rows, training steps or cost, each with the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.study.groups import Group, Row, check_rows, direction, grouped, is_number, phrase, value_of
from jaxft.study.statistics import mean, mean_interval


class Point(NamedTuple):
    """The runs of one group at one place of an axis.

    Attributes:
        x: where.
        values: of the seeds that did not diverge.
        mean: of them; None where there are none.
        interval: 95 % of the mean, Student's t of fewer than 20 values and the bootstrap's of more; None of fewer than
            two, and along the steps of a run.
        diverged: how many runs did.
    """

    x: float
    values: tuple[float, ...]
    mean: float | None
    interval: tuple[float, float] | None
    diverged: int


class Curve(NamedTuple):
    """One method's points, x ascending."""

    name: str
    by: dict[str, Any]
    points: tuple[Point, ...]


class Curves(NamedTuple):
    """Curves over one axis: the curves, the name of the axis and the name of the value."""

    curves: tuple[Curve, ...]
    axis: str
    value: str


class FrontPoint(NamedTuple):
    """One group's cost and quality.

    Attributes:
        name: of the group.
        by: value of each field that sets the groups apart.
        cost: mean over the seeds.
        point: quality, with x the cost.
        on_front: no other group is at least as good at no more cost, and better in one of the two.
        cost_of: the largest ranks, where the runs had smaller ones masked in the program of those: the cost is theirs.
    """

    name: str
    by: dict[str, Any]
    cost: float
    point: Point
    on_front: bool
    cost_of: dict[str, int]


class Front(NamedTuple):
    """Groups by cost and quality: the points, the name of the cost, the metric and whether larger is better."""

    points: tuple[FrontPoint, ...]
    cost: str
    metric: str
    maximise: bool


def data_efficiency(
    rows: Sequence[Row],
    *,
    axis: str,
    by: Sequence[str] = ("method",),
    metric: str = "accuracy",
    over: str = "seed",
    maximise: bool | None = None,
    equalise: Sequence[str] = (),
) -> Curves:
    """The metric against the number of labelled rows, a curve a method; fewer labels for the same figure is better.

    Args:
        rows: of a study.
        axis: the configuration field that says how many labelled rows a run had (any number will do).
        by: fields that set the curves apart.
        metric: name of a test metric.
        over: the field that repeats a run.
        maximise: whether larger is better, for ``equalise``; None decides by the name.
        equalise: fields chosen on validation data, anew for each point.

    Raises:
        InputError: as :func:`jaxft.study.compare.compare`, or the axis holds something that is no number.

    Example:
        >>> rows = [
        ...     {"config": {"method": "lora", "labelled": count, "seed": seed}, "metrics": {"accuracy": accuracy}}
        ...     for count, accuracy in ((100, 0.75), (1000, 0.875))
        ...     for seed in range(2)
        ... ]
        >>> [(point.x, point.mean) for point in data_efficiency(rows, axis="labelled").curves[0].points]
        [(100.0, 0.75), (1000.0, 0.875)]
    """
    maximise = direction(rows, metric, maximise)
    check_rows(rows, fields=(axis,))
    if wrong := [row["config"].get(axis) for row in rows if not is_number(row["config"].get(axis))]:
        raise InputError(f"the axis {axis!r} has to hold numbers, but one run has {wrong[0]!r}: choose another field")
    groups = grouped(rows, by=(*by, axis), metric=metric, over=over, maximise=maximise, equalise=equalise)
    curves: dict[tuple[Any, ...], Curve] = {}
    for group in groups:
        values = {field: value for field, value in group.by.items() if field != axis}
        name = ", ".join(phrase(*pair) for pair in values.items())
        point = _point(group.by[axis], [value_of(row, metric) for row in group.rows.values()])
        before = curves.get(tuple(values.values()), Curve(name, values, ()))
        curves[tuple(values.values())] = before._replace(points=(*before.points, point))
    return Curves(tuple(curves.values()), axis, metric)


def learning_curves(
    rows: Sequence[Row],
    value: str = "loss",
    *,
    by: Sequence[str] = ("method",),
    metric: str = "accuracy",
    over: str = "seed",
    maximise: bool | None = None,
    equalise: Sequence[str] = (),
) -> Curves:
    """A value of the runs' curves against the step, a curve a group; a step counts the seeds that logged it.

    The points carry no intervals: over hundreds of steps a picture shows the range of the seeds instead.

    Args:
        rows: of a study, each with a ``"curve"``.
        value: what to follow, such as ``"loss"`` or ``"validation/accuracy"``.
        by: fields that set the curves apart.
        metric: by which ``equalise`` chooses.
        over: the field that repeats a run.
        maximise: whether a larger metric is better, for ``equalise``; None decides by the name.
        equalise: fields chosen for each group on validation data.

    Raises:
        InputError: as :func:`jaxft.study.compare.compare`, or no curve has such a value.
    """
    maximise = direction(rows, metric, maximise)
    groups = grouped(rows, by=by, metric=metric, over=over, maximise=maximise, equalise=equalise)
    known = {name for row in rows for entry in row.get("curve") or () for name in entry} - {"step"}
    if value not in known:
        raise InputError(f"no learning curve has a value {value!r} ({nearest(value, known)})")
    curves = tuple(Curve(group.name, group.by, tuple(_steps(group, value))) for group in groups)
    return Curves(curves, "step", value)


def cost_front(
    rows: Sequence[Row],
    *,
    cost: str = "trained_parameters",
    by: Sequence[str] = ("method",),
    metric: str = "accuracy",
    over: str = "seed",
    maximise: bool | None = None,
    equalise: Sequence[str] = (),
) -> Front:
    """Quality against cost, and which groups no other one beats in both (the Pareto front).

    Means over seeds decide, without a test. A group with a run that diverged is never on the front and beats nobody.

    Args:
        rows: of a study, each with a ``"cost"``.
        cost: ``"trained_parameters"``, ``"flops"`` a step, ``"bytes"`` a run or ``"seconds"`` a run; of a masked
            rank all but the first are those of the largest, see ``cost_of`` of its point.
        by: fields that set groups apart.
        metric: name of a test metric.
        over: the field that repeats a run.
        maximise: whether larger is better; None decides by the name.
        equalise: fields chosen for each group on validation data.

    Raises:
        InputError: as :func:`jaxft.study.compare.compare`, or the cost is unknown or was not measured in some run.
    """
    maximise = direction(rows, metric, maximise)
    groups = grouped(rows, by=by, metric=metric, over=over, maximise=maximise, equalise=equalise)
    known = {name for row in rows for name in row.get("cost") or ()}
    if cost not in known:
        raise InputError(f"no run has a cost {cost!r} ({nearest(cost, known)})")
    places = []
    for group in groups:
        costs = [(row.get("cost") or {}).get(cost) for row in group.rows.values()]
        measured = [float(each) for each in costs if each is not None]
        if len(measured) < len(costs):
            raise InputError(f"{group.name!r} has runs whose {cost!r} was not measured: choose another cost")
        expense = mean(measured)
        places.append((group, _point(expense, [value_of(row, metric) for row in group.rows.values()])))
    sign = 1 if maximise else -1
    scores = [None if point.diverged or point.mean is None else (point.x, sign * point.mean) for _, point in places]
    front = tuple(
        FrontPoint(
            group.name,
            group.by,
            point.x,
            point,
            score is not None and not _beaten(score, scores),
            {} if cost == "trained_parameters" else _larger(group),
        )
        for (group, point), score in zip(places, scores, strict=True)
    )
    return Front(front, cost, metric, maximise)


def _larger(group: Group) -> dict[str, int]:
    """The ranks that a group's programs were made for, where its own are smaller."""
    masked = {name: rank for row in group.rows.values() for name, rank in _masked(row).items()}
    return {name: rank for name, rank in masked.items() if group.by.get(name) not in (None, rank)}


def _masked(row: Row) -> dict[str, int]:
    return (row.get("program") or {}).get("masked") or {}


def _beaten(score: tuple[float, float], others: Sequence[tuple[float, float] | None]) -> bool:
    return any(
        other is not None and other != score and other[0] <= score[0] and other[1] >= score[1] for other in others
    )


def _point(x: float, values: Sequence[float | None], *, interval: bool = True) -> Point:
    finished = tuple(value for value in values if value is not None)
    if not finished:
        return Point(float(x), (), None, None, len(values))
    around = mean_interval(finished) if interval else None
    return Point(float(x), finished, mean(finished), around, len(values) - len(finished))


def _steps(group: Group, value: str) -> list[Point]:
    logged: dict[float, list[float | None]] = {}
    for row in group.rows.values():
        for entry in row.get("curve") or ():
            if value in entry:
                finite = value_of({"metrics": entry}, value)
                logged.setdefault(entry["step"], []).append(finite)
    return [_point(step, logged[step], interval=False) for step in sorted(logged)]
