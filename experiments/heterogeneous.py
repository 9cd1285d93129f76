r"""How far do labelled digits of one size carry to digits of another, when the target has few labels or none?

MNIST's 784 pixels and the 64 counts of optdigits: no feature of one is a feature of the other. An encoder for each
brings rows of both into one space with one head, trained with Adam, rate 1e-3, for 600 steps of 64 labelled rows of the
source, 64 unlabelled ones of the target and all of the target's few labelled rows. What differs is how the domains are
coupled: not at all beyond the head, by their distributions, class by class, or by a transport plan that carries the
source's labels to 1,000 rows of the target, which then learns from them. Accuracy after the last step is on the
target's test rows; every seed draws its own labelled rows.

    python experiments/heterogeneous.py                      both directions, five seeds
    python experiments/heterogeneous.py --seeds 0 --few 3    one seed, three labelled rows a class

Writes experiments/results/heterogeneous.md, .csv and .png. A method that is done is kept in the folder of that name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import tyro

import jaxft as ft
from experiments import report, shift
from jaxft.objectives import squared_distances

PAIRS = (("mnist", "optdigits"), ("optdigits", "mnist"))
LARGEST = {"mnist": 255, "optdigits": 16}
COUPLED = 1000
ALONE, SUPERVISED = "labelled target rows alone", "target supervised"
TASK, FEW = ft.cross_entropy("source"), ft.cross_entropy("known")
Rows = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Config:
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    few: tuple[int, ...] = (0, 1, 3, 10)


class Way(NamedTuple):
    """How the domains are coupled.

    Attributes:
        term: the view of the target's labelled rows, or None where there are none -> what is added, if anything.
        plan: (source rows, target rows, cost of what is known) -> a plan that carries labels, or None.
        least: the fewest labelled rows of a class that it can do with.
    """

    term: Callable[[str | None], ft.Objective] | None = None
    plan: Callable[[np.ndarray, np.ndarray, np.ndarray], Any] | None = None
    least: int = 0


def by_distances(source: np.ndarray, target: np.ndarray, known: np.ndarray) -> Any:
    ours, theirs = (squared_distances(jnp.asarray(part), jnp.asarray(part)) for part in (source, target))
    return ft.fused_gromov_wasserstein_plan(ours, theirs, jnp.asarray(known) if known.any() else None)


def by_features(source: np.ndarray, target: np.ndarray, known: np.ndarray) -> Any:
    return ft.co_optimal_transport(jnp.asarray(source), jnp.asarray(target), cross_cost=jnp.asarray(known)).rows


WAYS: dict[str, Way] = {
    ALONE: Way(least=1),
    "one head": Way(least=1),
    "MMD": Way(lambda known: ft.mmd()),
    "Deep CORAL": Way(lambda known: ft.deep_coral()),
    "class MMD": Way(lambda known: ft.class_mmd(known=known)),
    "Gromov–Wasserstein labels": Way(plan=by_distances),
    "co-optimal labels": Way(plan=by_features),
    SUPERVISED: Way(),
}


@cache
def rows(domain: str) -> tuple[Rows, Rows]:
    """Train and test of a domain in its own features, from 0 to 1."""
    split = {"mnist": ft.data.mnist, "optdigits": ft.data.optdigits}[domain]()
    train, test = (
        (part.images.reshape(len(part.images), -1).astype(np.float32) / LARGEST[domain], part.labels)
        for part in (split.train, split.test)
    )
    return train, test


def labelled(domain: str, few: int, seed: int) -> np.ndarray:
    """Places of so many training rows of each class."""
    labels, draw = rows(domain)[0][1], np.random.default_rng(seed)
    return np.concatenate([draw.permutation(np.flatnonzero(labels == digit))[:few] for digit in range(10)])


def carried(way: Way, source: str, target: str, known: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Rows of the target, those with known labels first, the others with what the plan brings from the source."""
    assert way.plan is not None
    (x, y), (t, true) = rows(source)[0], rows(target)[0]
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(t))
    theirs = np.concatenate([known, order[~np.isin(order, known)]])[:COUPLED]
    ours = draw.permutation(len(x))[:COUPLED]
    cost = np.zeros((COUPLED, COUPLED), np.float32)
    cost[:, : len(known)] = y[ours][:, None] != true[known]
    plan = way.plan(x[ours], t[theirs], cost)
    labels = np.array(ft.transfer_labels(plan, jnp.asarray(y[ours]), classes=10).argmax(1), np.int32)
    labels[: len(known)] = true[known]
    return {"target_features": t[theirs], "labels": labels}


def setting(name: str, source: str, target: str, few: int, seed: int) -> shift.Setting:
    (x, y), ((t, true), (test, _)) = rows(source)[0], rows(target)
    way, places = WAYS[name], labelled(target, few, seed)
    learned = {"source_features": x, "labels": y}
    if name == SUPERVISED:
        learned = {"target_features": t, "labels": true}
    elif way.plan is not None:
        learned = carried(way, source, target, places, seed)
    return shift.Setting(
        lambda seed, _: ft.two_encoders(x.shape[1], t.shape[1], num_labels=10, seed=seed),
        learned,
        {"target_features": t},
        {"test": {"target_features": test}},
        optax.adam(1e-3),
        every=600,
        known={"target_features": t[places], "labels": true[places]} if few else None,
    )


def objective(name: str, few: int) -> ft.Objective:
    way = WAYS[name]
    parts: dict[str, Any] = {}
    if name != ALONE:
        parts["task"] = TASK
    if few:
        parts["few"] = FEW
    if way.term is not None:
        parts["coupled"] = (way.term("known" if few else None), 1.0)
    return ft.combine(**parts)


def runs(config: Config, name: str, source: str, target: str, few: int) -> list[dict[str, Any]]:
    """One way with so many labelled rows a class: a program for all seeds."""
    method, found, program = shift.Method(lambda *_: objective(name, few)), [], None
    labels = rows(target)[1][1]
    for seed in config.seeds:
        here = setting(name, source, target, few, seed)
        program = shift.Program(method, here) if program is None else program.on(here)
        logits = program.history(seed, 1.0).outputs["test"][0][-1]
        facts = {"source": source, "target": target, "method": name, "few": few, "seed": seed}
        found.append(facts | {"accuracy": ft.shift.oracle_accuracy(logits, labels)})
    return found


def asked(config: Config, name: str) -> Sequence[int]:
    """The numbers of labelled rows that a way is tried with."""
    return (0,) if name == SUPERVISED else [few for few in config.few if few >= WAYS[name].least]


def table(rows: list[dict[str, Any]], config: Config) -> str:
    """A line a way, a column for each number of labelled rows a class."""

    def cell(own: Sequence[Mapping[str, Any]]) -> str:
        return report.mean_and_interval([row["accuracy"] for row in own])

    lines = [
        (name, *(cell([row for row in own if row["few"] == few]) for few in config.few))
        for name, own in report.by_method(rows).items()
        if name != SUPERVISED
    ]
    every = cell(report.by_method(rows)[SUPERVISED])
    columns = ("coupled by", *(f"{few} a class" for few in config.few))
    return f"{report.markdown_table(columns, lines)}\n\nWith all labels of the target: {every}."


def page(config: Config, found: list[dict[str, Any]]) -> str:
    parts = [
        f"## {source} to {target}\n\n{table([row for row in found if row['source'] == source], config)}\n"
        for source, target in PAIRS
    ]
    return f"""# Digits of two sizes

`{report.command(__file__, config)}`

Accuracy on the target's test rows after the last step, by labelled rows of the target: the mean of {len(config.seeds)}
seeds ± half of Student's 95 % interval. All ways but "labelled target rows alone" learn from the source's labels too;
every weight is one, none was tuned.

{chr(10).join(parts)}
![accuracy by labelled rows of the target](heterogeneous.png)

{report.machine()}
"""


def picture(config: Config, found: list[dict[str, Any]]) -> None:
    """Accuracy against labelled rows, a line a way."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(PAIRS), figsize=(9.6, 4), sharey=True, layout="constrained")
    markers = "osD^vPX"
    for axes, (source, target) in zip(panels, PAIRS, strict=True):
        for place, name in enumerate(name for name in WAYS if name != SUPERVISED):
            own = [row for row in found if (row["source"], row["method"]) == (source, name)]
            means = [np.mean([row["accuracy"] for row in own if row["few"] == few]) for few in asked(config, name)]
            axes.plot(asked(config, name), means, marker=markers[place], label=name)
        top = [row["accuracy"] for row in found if (row["source"], row["method"]) == (source, SUPERVISED)]
        axes.axhline(np.mean(top), color="grey", linestyle="--", linewidth=1, label="all labels of the target")
        axes.set(title=f"{source} to {target}", xlabel="labelled rows of a class in the target", ylim=(0, 1))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(report.RESULTS / "heterogeneous.png", dpi=150)
    plt.close(figure)


def main() -> None:
    config = tyro.cli(Config)
    found: list[dict[str, Any]] = []
    for source, target in PAIRS:
        for name in WAYS:
            for few in asked(config, name):
                began = time.perf_counter()
                cause = {"method": name, "source": source, "few": few, "seeds": config.seeds}
                file = f"heterogeneous/{source}-{name.lower().replace(' ', '_').replace('–', '_')}-{few}"
                found += report.kept(file, cause, partial(runs, config, name, source, target, few))
                print(f"{source}: {name}, {few} a class, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    picture(config, found)
    report.write_page("heterogeneous", page(config, found), found)


if __name__ == "__main__":
    main()
