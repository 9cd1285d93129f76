r"""Which methods carry a digit classifier from one hand to another, when nobody looks at the target's labels?

MNIST and optdigits, 16 x 16, a small convolutional net from scratch (32 and 48 channels, stride two, 100 units), Adam
with the rate 1e-3 (MCD 2e-4 and ADDA 1e-4: they collapse at 1e-3), 600 steps of 64 labelled rows of the source and 64
unlabelled ones of the target. Every method has up to three weights of its term and ten moments of its run to choose
from, and chooses both by a criterion that reads rows of the source that were held out and 500 unlabelled training rows
of the target: InfoMax, unless another is named. The weight is chosen with the first seed. Accuracy is on the target's
test rows.

"last" is the chosen weight after the last step, "selected" the chosen moment, "oracle" the best moment by the target's
own labels, which is what a choice is measured by and must not be made by. "source only" learns from the source alone,
"target supervised" from the labels of the target.

    python experiments/digits.py                  all methods, both directions, five seeds: 45 minutes on two cores
    python experiments/digits.py --quick          five methods, one direction, one seed: three minutes
    python experiments/digits.py --time           seconds and last accuracy of five methods with weight one

Writes experiments/results/digits.md, .csv and .png, or digits_quick and digits_time. A method that is done is kept in a
file of the folder of that name: what is killed goes on where it stopped when the command is given again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import optax
import tyro

import jaxft as ft
from experiments import digit_methods, report, shift

PAIRS = (("mnist", "optdigits"), ("optdigits", "mnist"))
UNLABELLED = 500
SUPERVISED = "target supervised"


@dataclass(frozen=True)
class Config:
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    methods: tuple[str, ...] = (*digit_methods.METHODS, SUPERVISED)
    criterion: str = "InfoMax"
    quick: bool = False
    time: bool = False


def setting(source: str, target: str, *, supervised: bool = False) -> shift.Setting:
    """The rows of a direction; a supervised run has the target in the place of the source."""
    data = ft.data.digits(source=source, target=target)
    seen = data.target.train["pixels"]
    learned = ft.data.digits(source=target, target=target).source.train if supervised else data.source.train
    measured = {
        "held out": {"pixels": data.source.test["pixels"]},
        "unlabelled": {"pixels": seen[np.random.default_rng(0).permutation(len(seen))[:UNLABELLED]]},
        "test": {"pixels": data.target.test["pixels"]},
    }
    return shift.Setting(
        lambda seed, norm: ft.small_convnet(16, num_labels=10, norm=norm, seed=seed),
        learned,
        data.target.train,
        measured,
        optax.adam(1e-3),
    )


class Judge:
    """Figures of a history, and the choices that are made by its unlabelled part."""

    def __init__(self, source: str, target: str):
        data = ft.data.digits(source=source, target=target)
        self._held_out, self._test = data.source.test["labels"], data.target.test["labels"]

    def rows(self, history: shift.History) -> tuple[list[ft.shift.Labelled], list[ft.shift.Unlabelled]]:
        """What a criterion may read, a moment each."""
        held_out, unlabelled = history.outputs["held out"], history.outputs["unlabelled"]
        return (
            [ft.shift.Labelled(f, z, self._held_out) for z, f in zip(*held_out, strict=True)],
            [ft.shift.Unlabelled(f, z) for z, f in zip(*unlabelled, strict=True)],
        )

    def accuracy(self, history: shift.History) -> np.ndarray:
        """On the target's test rows, at each moment."""
        logits = history.outputs["test"][0]
        return np.array([ft.shift.oracle_accuracy(moment, self._test) for moment in np.nan_to_num(logits)])

    def weight(self, histories: Sequence[shift.History], criterion: str) -> int:
        """The best of several runs: the one with the best of all their moments."""
        found = [self.rows(history) for history in histories]
        sources = [moment for ours, _ in found for moment in ours]
        targets = [moment for _, theirs in found for moment in theirs]
        return (_chosen(sources, targets, criterion) or 0) // len(histories[0].steps)

    def figures(self, history: shift.History, criterion: str) -> dict[str, float]:
        accuracy, (sources, targets) = self.accuracy(history), self.rows(history)
        chosen = {name: _chosen(sources, targets, name) for name in ft.shift.CRITERIA}
        moment = chosen[criterion] or 0
        distance = ft.shift.proxy_a_distance(*(_finite(part[moment].features) for part in (sources, targets)))
        return {
            "last": accuracy[-1],
            "selected": accuracy[moment],
            "oracle": accuracy.max(),
            "step": int(history.steps[moment]),
            "proxy A-distance": distance,
            **{f"by {name}": accuracy[place or 0] for name, place in chosen.items()},
        }


def _chosen(sources: Any, targets: Any, criterion: str) -> int | None:
    """The best moment; None where a run has diverged at all of them."""
    try:
        return ft.shift.select(sources, targets, criterion=criterion)
    except ft.InputError:
        return None


def _finite(features: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.asarray(features, np.float64), posinf=0.0, neginf=0.0)


def runs(config: Config, source: str, target: str, name: str) -> list[dict[str, Any]]:
    """The runs of one method in one direction."""
    judge, supervised = Judge(source, target), name == SUPERVISED
    method = digit_methods.METHODS["source only" if supervised else name]
    program = shift.Program(method, setting(source, target, supervised=supervised))
    first, *others = config.seeds
    tried = program.histories([(first, weight) for weight in method.weights])
    place = judge.weight(tried, config.criterion)
    weight = method.weights[place]
    histories = [tried[place], *program.histories([(seed, weight) for seed in others])]
    facts = {"source": source, "target": target, "method": name, "weight": weight}
    return [
        facts | {"seed": seed} | judge.figures(history, config.criterion)
        for seed, history in zip(config.seeds, histories, strict=True)
    ]


def compare(config: Config, folder: str, source: str, target: str) -> list[dict[str, Any]]:
    """The runs of one direction."""
    rows = []
    for name in config.methods:
        began = time.perf_counter()
        cause = {"method": name, "source": source, "seeds": config.seeds, "criterion": config.criterion}
        file = f"{folder}/{source}-{name.lower().replace(' ', '_').replace(',', '')}"
        rows += report.kept(file, cause, partial(runs, config, source, target, name))
        print(f"{source} to {target}: {name}, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return rows


COLUMNS = ("method", "weight", "last", "selected", "over source only", "oracle", "proxy A-distance", "seeds that gain")


def table(rows: list[dict[str, Any]]) -> str:
    """The methods of one direction, the best first."""
    groups = report.by_method(rows)
    base = {row["seed"]: row["selected"] for row in groups.get("source only", [])}
    order = sorted(groups, key=lambda name: -float(np.mean([row["selected"] for row in groups[name]])))
    lines = []
    for name in order:
        own = groups[name]
        gains = [row["selected"] - base[row["seed"]] for row in own] if base else []
        lines.append(
            (
                name,
                f"{own[0]['weight']:g}",
                *(report.mean_and_interval([row[figure] for row in own]) for figure in ("last", "selected")),
                f"{np.mean(gains):+.3f}" if gains else "",
                *(report.mean_and_interval([row[figure] for row in own]) for figure in ("oracle", "proxy A-distance")),
                f"{sum(gain > 0 for gain in gains)} of {len(gains)}" if gains else "",
            )
        )
    return report.markdown_table(COLUMNS, lines)


def criteria(rows: list[dict[str, Any]]) -> str:
    """How far each criterion's choice of a moment is from the oracle's, over all runs."""
    names = list(ft.shift.CRITERIA)
    gap = {name: np.mean([row["oracle"] - row[f"by {name}"] for row in rows]) for name in names}
    last = np.mean([row["oracle"] - row["last"] for row in rows])
    lines = [(name, f"{gap[name]:.3f}") for name in sorted(names, key=lambda name: gap[name])]
    return report.markdown_table(("criterion", "below the oracle"), [*lines, ("the last step", f"{last:.3f}")])


def page(config: Config, rows: list[dict[str, Any]], name: str) -> str:
    asked = "python experiments/digits.py --quick" if config.quick else report.command(__file__, config)
    parts = []
    for source, target in dict.fromkeys((row["source"], row["target"]) for row in rows):
        own = [row for row in rows if (row["source"], row["target"]) == (source, target)]
        parts.append(f"## {source} to {target}\n\n{table(own)}\n")
    seeds = len(config.seeds)
    return f"""# Digits across two hands

`{asked}`

Accuracy on the target's test rows, the mean of {seeds} seed{"s" if seeds > 1 else ""} ± half of Student's 95 %
interval. Weight and moment are chosen by {config.criterion}, without the target's labels; "last" is after 600 steps,
"oracle" the best of ten moments by the target's labels. "over source only" compares both at their selected moments,
seed by seed.

{chr(10).join(parts)}
## How good a criterion is

{criteria(rows)}

Mean over all runs of this page, those of methods that fail included.

![accuracy at the selected moment]({name}.png)

{report.machine()}
"""


def picture(rows: list[dict[str, Any]], name: str) -> None:
    """Accuracy at the selected moment of every method, with the seeds, in both directions."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    pairs = list(dict.fromkeys((row["source"], row["target"]) for row in rows))
    groups = report.by_method([row for row in rows if (row["source"], row["target"]) == pairs[0]])
    order = sorted(groups, key=lambda method: np.mean([row["selected"] for row in groups[method]]))
    size = (4.6 * len(pairs) + 1.6, 0.26 * len(order) + 1)
    figure, panels = plt.subplots(1, len(pairs), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, (source, target) in zip(panels[0], pairs, strict=True):
        own = report.by_method([row for row in rows if (row["source"], row["target"]) == (source, target)])
        for place, method in enumerate(order):
            values = [row["selected"] for row in own[method]]
            axes.plot(values, [place] * len(values), "o", color="#0072b2", alpha=0.35, markersize=4)
            axes.plot(np.mean(values), place, "|", color="#d55e00", markersize=12, markeredgewidth=2)
        if "source only" in own:
            axes.axvline(
                np.mean([row["selected"] for row in own["source only"]]), color="grey", linestyle="--", linewidth=1
            )
        axes.set(title=f"{source} to {target}", xlabel="accuracy at the selected moment", xlim=(0, 1))
        axes.set_yticks(range(len(order)), order)
        axes.grid(alpha=0.3)
    figure.savefig(report.RESULTS / f"{name}.png", dpi=150)
    plt.close(figure)


def times() -> None:
    """Whole runs with weight one, three seeds one at a time, compiling left out: seconds, and accuracy at the end."""
    rows = []
    for source, target in PAIRS:
        whole, judge = setting(source, target), Judge(source, target)
        bare = whole._replace(measured={"test": whole.measured["test"]}, every=600)
        for name in digit_methods.QUICK:
            program = shift.Program(digit_methods.METHODS[name], bare)
            found = [program.history(seed, 1.0) for seed in range(3)]
            accuracies = [float(judge.accuracy(history)[-1]) for history in found]
            seconds = float(np.median([history.seconds for history in found]))
            rows.append({"source": source, "method": name, "seconds": seconds, "last": float(np.mean(accuracies))})
    lines = [(str(row["source"]), str(row["method"]), f"{row['seconds']:.2f}", f"{row['last']:.3f}") for row in rows]
    text = report.markdown_table(("source", "method", "seconds a run", "accuracy at the end"), lines)
    report.write_page(
        "digits_time",
        "# What a run takes\n\n`python experiments/digits.py --time`\n\n"
        f"{text}\n\n600 steps of 64 + 64 rows in one program, the weight of the term 1: the median of three runs, "
        f"one at a time, and the mean accuracy on the target's test rows after the last step.\n\n{report.machine()}\n",
        rows,
    )


def main() -> None:
    config = tyro.cli(Config)
    if config.time:
        times()
        return
    if config.quick:
        config = Config(seeds=(0,), methods=digit_methods.QUICK, criterion=config.criterion, quick=True)
    if unknown := set(config.methods) - {*digit_methods.METHODS, SUPERVISED}:
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among {', '.join(digit_methods.METHODS)}")
    name = "digits_quick" if config.quick else "digits"
    rows = [row for pair in PAIRS[: 1 if config.quick else 2] for row in compare(config, name, *pair)]
    picture(rows, name)
    report.write_page(name, page(config, rows, name), rows)


if __name__ == "__main__":
    main()
