"""The learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft.cli.tasks import Task
from jaxft.files import atomic_file

_BLUE, _ORANGE, _GREY = "#2f6db3", "#d1620f", "#8a8a8a"


def write_curve(path: Path, history: Sequence[dict[str, Any]], *, task: Task, per_epoch: int, chosen: int) -> None:
    """Draws training loss and, where there is one, the figure that chooses, with its interval, over epochs.

    Args:
        path: the PNG file to write.
        history: the lines of ``metrics.jsonl``.
        task: of the run.
        per_epoch: steps an epoch.
        chosen: the step whose checkpoint predicts.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    evaluated = [line for line in history if line.get(f"eval/{task.best[0]}") is not None]
    trained = [line for line in history if line.get("loss") is not None]
    figure, axes = plt.subplots(1, 2 if evaluated else 1, figsize=(9 if evaluated else 5, 3.4), squeeze=False)
    _draw_loss(axes[0, 0], trained, evaluated, per_epoch, task.loss)
    if evaluated:
        _draw_figure(axes[0, 1], evaluated, per_epoch, chosen, task)
    for axis in axes.flat:
        axis.set_xlabel("epoch")
        axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axis.set_axisbelow(True)
    figure.tight_layout()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)


def _draw_loss(axis: Any, trained: Sequence[Any], evaluated: Sequence[Any], per_epoch: int, name: str) -> None:
    epochs, losses = [line["step"] / per_epoch for line in trained], [line["loss"] for line in trained]
    axis.plot(epochs, losses, color=_BLUE, alpha=0.25, linewidth=1)
    axis.plot(epochs, _smooth(losses), color=_BLUE, linewidth=1.8, label="training batch, smoothed")
    measured = [line for line in evaluated if line.get("eval/loss") is not None]
    if measured:
        places = [line["step"] / per_epoch for line in measured]
        axis.plot(places, [line["eval/loss"] for line in measured], "o-", color=_ORANGE, label="evaluation rows")
    axis.set_ylabel(name)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)


def _draw_figure(axis: Any, evaluated: Sequence[Any], per_epoch: int, chosen: int, task: Task) -> None:
    name = f"eval/{task.best[0]}"
    places = [line["step"] / per_epoch for line in evaluated]
    values = [line[name] for line in evaluated]
    if all(f"{name}_low" in line for line in evaluated):
        low = [value - line[f"{name}_low"] for value, line in zip(values, evaluated, strict=True)]
        high = [line[f"{name}_high"] - value for value, line in zip(values, evaluated, strict=True)]
        axis.errorbar(places, values, yerr=(low, high), fmt="o-", color=_ORANGE, capsize=3, label="95 % interval")
    else:
        axis.plot(places, values, "o-", color=_ORANGE, label="evaluation rows")
    best = next((index for index, line in enumerate(evaluated) if line["step"] == chosen), None)
    if best is not None:
        axis.plot(places[best], values[best], "o", markersize=11, fillstyle="none", color=_GREY, label="predicts")
    axis.set_ylabel(f"evaluation {dict(task.figures)[task.best[0]]}")
    axis.legend(frameon=False, fontsize=8, loc="lower right" if task.best[1] == "max" else "upper right")


def _smooth(values: Sequence[float], window: int = 9) -> list[float]:
    """The mean of a few neighbours on either side, fewer at the ends."""
    half = window // 2
    parts = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
    return [sum(part) / len(part) for part in parts]
