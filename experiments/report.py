"""What experiments share: a process for each run, what a run costs, and the table and picture of the results."""

from __future__ import annotations

import csv
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxft as ft
from jaxft.metrics import wilson_interval

RESULTS = Path(__file__).parent / "results"


class Point(NamedTuple):
    """One method in the picture: its name, trained parameters, figure, and the interval of the figure."""

    name: str
    trained: int
    figure: float
    low: float
    high: float


def flags(values: Mapping[str, Any]) -> list[str]:
    """Options of the command line: a tuple becomes an option with several values, a bool one without."""
    words = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
            continue
        several = [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
        words += [f"--{name.replace('_', '-')}", *several]
    return words


def command(script: str, config: Any) -> str:
    """The command that gives this configuration, with the options that differ from the defaults only."""
    default = type(config)()
    changed = {name: value for name, value in vars(config).items() if value != getattr(default, name)}
    return shlex.join(["python", f"experiments/{Path(script).name}", *flags(changed)])


def in_own_process(script: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a script in a fresh interpreter and reads the JSON of the last line it prints."""
    done = subprocess.run([sys.executable, script, *flags(values)], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def kept(name: str, cause: Any, make: Callable[[], Any]) -> Any:
    """What ``make`` returns, as JSON; read from ``results/NAME.json`` where it was made before for the same cause.

    Remove the file after a change of the code, to begin anew.
    """
    path, cause = RESULTS / f"{name}.json", json.loads(json.dumps(cause))
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["cause"] == cause:
            return found["result"]
    result = json.loads(json.dumps(make()))
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = path.with_suffix(".part")
    waiting.write_text(json.dumps({"cause": cause, "result": result}, indent=1) + "\n", encoding="utf-8")
    waiting.replace(path)
    return result


def trained_parameters(delta: Any) -> int:
    """How many numbers learn."""
    return sum(leaf.size for leaf in jax.tree.leaves(delta))


def step_milliseconds(step: ft.Step, frozen: Any, state: Any, batches: Any, repeats: int = 10) -> float:
    """Median time of so many steps, compilation left out; the state is used up."""
    update, times = jax.jit(step.update, donate_argnums=1), []
    for index in range(repeats + 1):
        batch = batches[index]
        start = time.perf_counter()
        state, metrics = update(frozen, state, batch)
        jax.block_until_ready(metrics["loss"])
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[1:]))


def peak_mebibytes() -> float:
    """The largest memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def machine() -> str:
    """Where and with what something was measured, and how busy the machine was."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "flax", "optax", "numpy"))
    return (
        f"{platform.system()} {platform.machine()} with {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{versions}; load average {os.getloadavg()[0]:.1f}."
    )


def mean_accuracy(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """The mean accuracy over the seeds of one method, and Wilson's interval for one test set."""
    total, correct = rows[0]["test_rows"], float(np.mean([row["correct"] for row in rows]))
    return correct / total, *wilson_interval(round(correct), total)


def half_interval(values: Sequence[float]) -> float:
    """Half of Student's 95 % interval of a mean of two values or more."""
    from scipy import stats

    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def mean_and_interval(values: Sequence[float]) -> str:
    """The mean, and with two values or more half of Student's 95 % interval; empty without any."""
    half = f" ± {half_interval(values):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{half}" if values else ""


def grouped(rows: list[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """The runs that agree in all of these, in order of appearance."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def by_method(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The runs of each method."""
    return {method: own for (method,), own in grouped(rows, "method").items()}


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of strings."""
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a run, every figure in full; a run without a figure that others have leaves it empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_page(name: str, text: str, rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Writes ``results/NAME.md``, and with rows ``results/NAME.csv``, and says so."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    if rows:
        write_csv(RESULTS / f"{name}.csv", rows)
    print(f"{text}\n{RESULTS / name}.md")


def parameters_picture(
    points: Sequence[Point],
    path: Path,
    *,
    title: str,
    figure_name: str = "test accuracy",
    baseline: tuple[str, float] | None = None,
) -> None:
    """A figure against trained parameters, with the interval of each method and the line of what learns nothing."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, trained, value, low, high in points:
        axes.errorbar(trained, value, [[value - low], [high - value]], fmt="o", capsize=4)
        axes.annotate(name, (trained, value), xytext=(8, -12), textcoords="offset points")
    if baseline is not None:
        axes.axhline(baseline[1], color="grey", linestyle="--", linewidth=1)
        axes.annotate(
            baseline[0],
            (0.99, baseline[1]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            horizontalalignment="right",
            color="grey",
        )
    axes.set(xscale="log", xlabel="trained parameters", ylabel=figure_name, title=title)
    axes.set_xlim(right=1e9)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def ranked_picture(points: Sequence[Point], path: Path, *, title: str, figure_name: str = "test accuracy") -> None:
    """Many methods, the best first: a figure with its interval, and beside it the trained parameters."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    order = sorted(points, key=lambda point: point.figure)
    size = (7.2, 0.26 * len(order) + 1.2)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=(2, 1), layout="constrained")
    for place, (_, trained, value, low, high) in enumerate(order):
        left.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color="#0072b2", capsize=3)
        right.plot(trained, place, "s", color="#d55e00")
    left.set_yticks(range(len(order)), [point.name for point in order])
    left.set(xlabel=figure_name)
    right.set(xscale="log", xlabel="trained parameters")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)
