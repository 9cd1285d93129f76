"""The learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft.files import atomic_file

_BLUE, _ORANGE, _GREY = "#2f6db3", "#d1620f", "#8a8a8a"


def write_curve(path: Path, history: Sequence[dict[str, Any]], *, per_epoch: int, chosen: int) -> None:
    """Draws training loss and, where there is one, evaluation accuracy with its interval over epochs.

    Args:
        path: the PNG file to write.
        history: the lines of ``metrics.jsonl``.
        per_epoch: steps an epoch.
        chosen: the step whose checkpoint predicts.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    evaluated = [line for line in history if line.get("eval/accuracy") is not None]
    trained = [line for line in history if line.get("loss") is not None]
    figure, axes = plt.subplots(1, 2 if evaluated else 1, figsize=(9 if evaluated else 5, 3.4), squeeze=False)
    _draw_loss(axes[0, 0], trained, evaluated, per_epoch)
    if evaluated:
        _draw_accuracy(axes[0, 1], evaluated, per_epoch, chosen)
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


def _draw_loss(axis: Any, trained: Sequence[Any], evaluated: Sequence[Any], per_epoch: int) -> None:
    epochs, losses = [line["step"] / per_epoch for line in trained], [line["loss"] for line in trained]
    axis.plot(epochs, losses, color=_BLUE, alpha=0.25, linewidth=1)
    axis.plot(epochs, _smooth(losses), color=_BLUE, linewidth=1.8, label="training batch, smoothed")
    if evaluated:
        places = [line["step"] / per_epoch for line in evaluated]
        axis.plot(places, [line["eval/loss"] for line in evaluated], "o-", color=_ORANGE, label="evaluation rows")
    axis.set_ylabel("cross-entropy (nats)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=8)


def _draw_accuracy(axis: Any, evaluated: Sequence[Any], per_epoch: int, chosen: int) -> None:
    places = [line["step"] / per_epoch for line in evaluated]
    values = [line["eval/accuracy"] for line in evaluated]
    low = [value - line["eval/accuracy_low"] for value, line in zip(values, evaluated, strict=True)]
    high = [line["eval/accuracy_high"] - value for value, line in zip(values, evaluated, strict=True)]
    axis.errorbar(places, values, yerr=(low, high), fmt="o-", color=_ORANGE, capsize=3, label="95 % interval")
    best = next((index for index, line in enumerate(evaluated) if line["step"] == chosen), None)
    if best is not None:
        axis.plot(places[best], values[best], "o", markersize=11, fillstyle="none", color=_GREY, label="predicts")
    axis.set_ylabel("evaluation accuracy")
    axis.legend(frameon=False, fontsize=8, loc="lower right")


def _smooth(values: Sequence[float], window: int = 9) -> list[float]:
    """The mean of a few neighbours on either side, fewer at the ends."""
    half = window // 2
    parts = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
    return [sum(part) / len(part) for part in parts]
