"""Pictures of a study: comparison, data efficiency, learning curves, cost and quality."""

from __future__ import annotations

from typing import Any

from jaxft.errors import InputError
from jaxft.study.compare import Comparison
from jaxft.study.curves import Curves, Front, FrontPoint
from jaxft.study.drawing import COLOURS, DARK, GREY, MARKERS, label_ends, render, scale_x, wrapped
from jaxft.study.groups import phrase

_COSTS = {
    "trained_parameters": "trained parameters",
    "flops": "floating-point operations a step",
    "bytes": "peak memory of a run, bytes",
    "seconds": "seconds a run",
}


def comparison_picture(comparison: Comparison, *, format: str = "svg") -> bytes:
    """Each group's mean and interval as a bar's end, its seeds as dots; filled where it is best or equal to the best.

    Args:
        comparison: of groups, drawn from top to bottom.
        format: ``"svg"`` or ``"png"``.

    Raises:
        InputError: every run diverged, or another format.
    """
    if all(group.mean is None for group in comparison.groups):
        raise InputError("every run diverged, so that there is nothing to draw: look at the learning rate")
    names = [wrapped(group.name, 36) for group in comparison.groups]
    lines = sum(max(2, name.count("\n") + 1) for name in names)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for place, group in enumerate(comparison.groups):
            colour = COLOURS[0] if group.best_or_equal else GREY
            seeds = list(group.values.values())
            axes.plot(seeds, [place + 0.22] * len(seeds), "o", color=colour, markersize=3.5, alpha=0.6, linewidth=0)
            if group.interval is not None:
                axes.plot(group.interval, [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            if group.mean is not None:
                fill = colour if group.best_or_equal else "white"
                axes.plot(group.mean, place, "o", color=colour, markerfacecolor=fill, markersize=7)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.margins(x=0.06)
        axes.set_xlabel(f"{comparison.metric}, test data ({'larger' if comparison.maximise else 'smaller'} is better)")
        _name_diverged(axes, comparison)

    return render(draw, size=(6.0, 0.75 + 0.2 * lines), format=format)


def data_efficiency_picture(curves: Curves, *, format: str = "svg") -> bytes:
    """Mean metric against labelled rows with the interval of each point, one named line a method.

    Args:
        curves: of :func:`jaxft.study.curves.data_efficiency`.
        format: ``"svg"`` or ``"png"``.

    Raises:
        InputError: nothing to draw, or another format.
    """
    return _curves_picture(curves, format, steps=False)


def learning_curves_picture(curves: Curves, *, format: str = "svg") -> bytes:
    """Mean over seeds against the step, with a band from the lowest to the highest seed, one named line a group.

    Args:
        curves: of :func:`jaxft.study.curves.learning_curves`.
        format: ``"svg"`` or ``"png"``.

    Raises:
        InputError: nothing to draw, or another format.
    """
    return _curves_picture(curves, format, steps=True)


def front_picture(front: Front, *, format: str = "svg") -> bytes:
    """Quality against cost: what is on the Pareto front is joined by steps, all else is grey.

    Args:
        front: of :func:`jaxft.study.curves.cost_front`.
        format: ``"svg"`` or ``"png"``.

    Raises:
        InputError: nothing to draw, or another format.
    """
    drawn = [point for point in front.points if point.point.mean is not None]
    if not drawn:
        raise InputError("every run diverged, so that there is nothing to draw: look at the learning rate")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        best = sorted((point.cost, point.point.mean) for point in drawn if point.on_front)
        axes.plot(
            [x for x, _ in best], [y for _, y in best], drawstyle="steps-post", color=COLOURS[0], alpha=0.4, zorder=1
        )
        for each in drawn:
            colour = COLOURS[0] if each.on_front else GREY
            if each.point.interval is not None:
                axes.plot([each.cost] * 2, each.point.interval, color=colour, linewidth=1.5, zorder=2)
            fill = colour if each.on_front else "white"
            axes.plot(each.cost, each.point.mean, "o", color=colour, markerfacecolor=fill, markersize=6, zorder=3)
        scale_x(axes, [each.cost for each in drawn], _COSTS.get(front.cost, front.cost))
        axes.set_ylabel(front.metric)
        axes.grid(axis="y")
        axes.margins(x=0.08, y=0.1)
        ends = [
            (_with_cost(each), each.cost, each.point.mean, COLOURS[0] if each.on_front else "#666666")
            for each in sorted(drawn, key=lambda each: -(each.point.mean or 0))
        ]
        label_ends(axes, [(name, x, y, colour) for name, x, y, colour in ends if y is not None])

    return render(draw, size=(6.6, max(3.6, 0.28 * len(drawn))), format=format)


def _with_cost(each: FrontPoint) -> str:
    """The name of a group, and what its cost is of if not of itself."""
    return " ".join([each.name, *(f"(cost: {phrase(*of)})" for of in each.cost_of.items())])


def _curves_picture(curves: Curves, format: str, *, steps: bool) -> bytes:
    drawn = [curve for curve in curves.curves if any(point.mean is not None for point in curve.points)]
    if not drawn:
        raise InputError("there is no point to draw: every run diverged, or no curve was logged")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        ends = []
        for place, curve in enumerate(drawn):
            colour = COLOURS[place % len(COLOURS)]
            points = [point for point in curve.points if point.mean is not None]
            x, y = [point.x for point in points], [point.mean for point in points]
            dashes = ("-", "--", ":")[place // len(COLOURS) % 3]
            marker = MARKERS[place % len(MARKERS)] if not steps or len(points) == 1 else None
            axes.plot(x, y, dashes, color=colour, marker=marker, markersize=4.5, linewidth=1.5, zorder=3)
            if steps:
                low, high = [min(point.values) for point in points], [max(point.values) for point in points]
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
            for point in points:
                if point.interval is not None:
                    axes.plot([point.x] * 2, point.interval, color=colour, linewidth=1.2, alpha=0.7, zorder=2)
            ends.append((curve.name, x[-1], y[-1] or 0.0, colour))
        if steps:
            axes.set_xlabel(curves.axis)
        else:
            scale_x(axes, [point.x for curve in drawn for point in curve.points], curves.axis)
        axes.set_ylabel(curves.value)
        axes.grid(axis="y")
        label_ends(axes, ends)

    return render(draw, size=(6.6, max(3.6, 0.28 * len(drawn))), format=format)


def _name_diverged(axes: Any, comparison: Comparison) -> None:
    """Says at the right of a row how many of its runs diverged, which its dots cannot show."""
    for place, group in enumerate(comparison.groups):
        if group.diverged:
            axes.annotate(
                f"{group.diverged} of {len(group.runs)} diverged",
                (1.02, place),
                xycoords=("axes fraction", "data"),
                verticalalignment="center",
                color=DARK,
                fontsize=8,
                annotation_clip=False,
            )
