"""The tables and the picture of `fashion_efficientnet`."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import report

Run = dict[str, Any]
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""By the number of seeds: the mean of so many plus or minus this many standard errors covers 95 %."""


def by_method(rows: list[Run], part: str) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for row in chosen(rows, part=part):
        found.setdefault(row["method"], []).append(row)
    return found


def chosen(rows: list[Run], **values: Any) -> list[Run]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def accuracies(rows: list[Run]) -> np.ndarray:
    return np.array([row["correct"] / row["test_rows"] for row in rows])


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The mean over seeds, and half of Student's 95 % interval of it; NaN for one seed."""
    spread = STUDENT[len(values)] * values.std(ddof=1) / np.sqrt(len(values)) if len(values) in STUDENT else np.nan
    return float(values.mean()), float(spread)


def cell(values: np.ndarray) -> str:
    return "{:.3f} ± {:.3f}".format(*mean_interval(values))


def ten_table(config: Any, rows: list[Run]) -> str:
    """Accuracy of the first part, with what each method costs."""
    lines = []
    for method, own in by_method(rows, "ten classes").items():
        step = next(row["step_ms"] for row in own if row["step_ms"] is not None)
        figures = [cell(accuracies(chosen(own, shots=shots))) for shots in config.shots]
        seconds = float(np.median([row["seconds"] for row in own]))
        costs = [f"{own[0]['trained']:,}", f"{step:.1f} ms", f"{seconds:.0f} s"]
        lines.append([method, f"{own[0]['rate']:g}", *figures, *costs])
    images = [f"{shots} images a class" for shots in config.shots]
    return report.markdown_table(["method", "learning rate", *images, "trained parameters", "step", "training"], lines)


def pair_table(config: Any, rows: list[Run]) -> str:
    """Accuracy of the second part; the difference is taken seed by seed, on the same images."""
    lines = []
    for method, own in by_method(rows, "second pair").items():
        before, after = (accuracies(chosen(own, start=start)) for start in ("ImageNet", "first pair"))
        mean, half = mean_interval(after - before)
        lines.append([method, cell(before), cell(after), f"{mean:+.3f} ± {half:.3f}"])
    first = f"from {' against '.join(config.source)}"
    return report.markdown_table(["method", "from ImageNet", first, "difference"], lines)


def rates_table(rows: list[Run]) -> str:
    lines = [[r["method"], f"{r['rate']:g}", f"{r['correct'] / r['test_rows']:.3f}"] for r in rows]
    return report.markdown_table(["method", "learning rate", "accuracy"], lines)


def page(config: Any, rows: list[Run], command: str, minutes: float) -> str:
    """The page written to experiments/results."""
    head = f"`{command}`\n\n{report.machine()} It took {minutes:.1f} minutes.\n\n"
    common = f"EfficientNet-Lite0 at {config.size} pixels, {config.steps} steps of {config.batch_size} images."
    if config.what == "rates":
        return (
            f"# Learning rates for Fashion-MNIST\n\n{head}{common} {rows[0]['shots']} images of each of ten classes, "
            f"one seed; accuracy on {rows[0]['test_rows']:,} training images that no run learns from.\n\n"
            f"{rates_table(rows)}\n"
        )
    passes = ", ".join(f"{config.steps * config.batch_size / (10 * shots):.1f}" for shots in config.shots)
    return (
        f"# How much must learn, and how many images are enough?\n\n{head}{common} Mean over {len(config.seeds)} "
        "seeds, each with images of its own, and Student's 95 % interval of it.\n\n"
        f"## Ten classes, {config.test_rows:,} test images\n\n{ten_table(config, rows)}\n\n"
        "The step is the median of ten, augmentation left out; the training is the median of the runs, compilation "
        "included where a run was the first. The probe's step reads features that were computed once.\n\n"
        f"The other methods' steps are {passes} passes over the images; more steps were not tried.\n\n"
        f"## {' against '.join(config.target).capitalize()}, {config.pair_shots} images each, "
        f"{config.test_rows:,} test images\n\n{pair_table(config, rows)}\n\n"
        f"The second column starts from the network that was fine-tuned on {config.source_shots} images each of "
        f"{' and '.join(config.source)} for {config.source_steps} steps, with a fresh head.\n\n"
        f"![accuracy]({config.name}.png)\n"
    )


def picture(config: Any, rows: list[Run]) -> None:
    """Accuracy against images a class by method, and both starts of the second pair; small points are seeds."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=(3, 2))
    ten, pair = (by_method(rows, part) for part in ("ten classes", "second pair"))
    for place, (method, own) in enumerate(ten.items()):
        figures = [accuracies(chosen(own, shots=shots)) for shots in config.shots]
        at = np.array(config.shots) * 1.04 ** (place - 1.5)  # side by side on the logarithmic axis
        line = left.plot(at, [values.mean() for values in figures], "o-", label=method)[0]
        for x, values in zip(at, figures, strict=True):
            left.plot([x] * len(values), values, ".", color=line.get_color(), alpha=0.5)
        both = [accuracies(chosen(pair[method], start=start)) for start in ("ImageNet", "first pair")]
        for seed in zip(*both, strict=True):
            right.plot([0, 1], seed, "-", color=line.get_color(), alpha=0.25)
        right.plot([0, 1], [values.mean() for values in both], "o-", color=line.get_color())
    left.set(xscale="log", xlabel="training images a class", ylabel="test accuracy", title="ten classes, from ImageNet")
    left.set_xticks(config.shots, [str(shots) for shots in config.shots])
    left.minorticks_off()
    left.legend(title="what learns")
    right.set(xlim=(-0.2, 1.2), title=f"{' against '.join(config.target)}, {config.pair_shots} images each")
    right.set_xticks([0, 1], ["from ImageNet", f"from {' against '.join(config.source)}"])
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(report.RESULTS / f"{config.name}.png", dpi=150)
    plt.close(figure)
