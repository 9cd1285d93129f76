"""What all pictures of a study share: style, colours, numbers on axes, labels that keep apart, equal bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from jaxft.errors import InputError

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Distinguishable without red or green sight (Okabe and Ito, "Color Universal Design", 2008); no yellow on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DARK, GREY, LIGHT = "#222222", "#8a8a8a", "#e5e5e5"

_STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": DARK,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": DARK,
    "ytick.labelcolor": DARK,
    "grid.color": LIGHT,
    "grid.linewidth": 0.8,
    "text.parse_math": False,
    "svg.hashsalt": "jaxft",
    "figure.constrained_layout.use": True,
}


def render(draw: Callable[[Any], None], *, size: tuple[float, float], format: str) -> bytes:
    """The bytes of a picture, the same whenever, wherever and however often it is drawn with the same matplotlib.

    Args:
        draw: fills the figure it is given.
        size: width and height in inches.
        format: ``"svg"`` or ``"png"``.

    Raises:
        InputError: another format.
    """
    if format not in ("svg", "png"):
        raise InputError(f'a picture is made as "svg" or "png", but {format!r} was asked for')
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=size)
        draw(figure)
        image = io.BytesIO()
        # The time and the version of the drawing library would change the bytes.
        metadata = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
        figure.savefig(image, format=format, dpi=160, metadata=metadata)
    return image.getvalue()


def wrapped(name: str, width: int = 30) -> str:
    """A name over as many lines as it needs."""
    return "\n".join(textwrap.wrap(name, width)) or "–"


def scale_x(axes: Any, values: Sequence[float], name: str) -> None:
    """Names the horizontal axis; it is logarithmic where positive values span more than a factor of eight."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    positive = [value for value in values if value > 0]
    if len(positive) == len(values) and max(positive) > 8 * min(positive):
        axes.set_xscale("log")
        decades = max(positive) / min(positive) > 1000
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades else (1.0, 2.0, 5.0), numticks=9))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, place: short_number(value)))
    axes.set_xlabel(name)


def short_number(value: float) -> str:
    """A number of any size in a few characters.

    Example:
        >>> [short_number(value) for value in (0, 0.0003, 25, 1500, 2e6, 3e9)]
        ['0', '0.0003', '25', '1.5k', '2M', '3G']
    """
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.4g}{letter}"
    return f"{value:.4g}"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves places on a line as little as needed for neighbours to be a gap apart, within bounds if they all fit.

    Example:
        >>> spread([1.0, 1.0, 9.0], 2.0, 0.0, 10.0)
        [0.0, 2.0, 9.0]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    clusters: list[tuple[float, list[int]]] = []
    for index in order:
        clusters.append((places[index], [index]))
        while (
            len(clusters) > 1
            and clusters[-1][0] - clusters[-2][0] < gap * (len(clusters[-1][1]) + len(clusters[-2][1])) / 2
        ):
            members = clusters[-2][1] + clusters[-1][1]
            clusters[-2:] = [(_within(_centre(places, members), gap * (len(members) - 1) / 2, low, high), members)]
    moved = [0.0] * len(places)
    for centre, members in clusters:
        centre = _within(centre, gap * (len(members) - 1) / 2, low, high)
        for rank, index in enumerate(members):
            moved[index] = centre + gap * (rank - (len(members) - 1) / 2)
    return moved


def label_ends(axes: Any, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Writes each name to the right of the end (x, y) of its line, in its colour, names kept apart.

    Args:
        axes: whose limits and layout are final but for the room on the right.
        ends: name, x, y and colour of each line.
    """
    names = [wrapped(name, 28) for name, *_ in ends]
    lines = max((name.count("\n") + 1 for name in names), default=1)
    figure = axes.get_figure()
    figure.draw_without_rendering()
    to_pixels = axes.transData.transform
    box = axes.get_window_extent()
    gap = lines * 11.5 * figure.dpi / 72
    heights = spread([to_pixels((x, y))[1] for _, x, y, _ in ends], gap, box.y0, box.y1)
    for name, (_, x, y, colour), height in zip(names, ends, heights, strict=True):
        axes.annotate(
            name,
            (x, y),
            xycoords="data",
            xytext=(1.02, (height - box.y0) / box.height),
            textcoords="axes fraction",
            color=colour,
            verticalalignment="center",
            linespacing=1.0,
            fontsize=8.5,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "alpha": 0.6,
                "relpos": (0.0, 0.5),
                "shrinkA": 1,
                "shrinkB": 3,
            },
            annotation_clip=False,
        )


def _centre(places: Sequence[float], members: Sequence[int]) -> float:
    return sum(places[index] for index in members) / len(members)


def _within(centre: float, half: float, low: float, high: float) -> float:
    return min(max(centre, low + half), max(high - half, low + half))
