r"""Can one small net know what five know together?

Five convolutional nets (32 and 48 channels, stride two, 100 units) on 500 of MNIST's digits, 16 x 16, each from another
seed: 800 steps of 64 rows with Adam at 1e-3. Their mean of probabilities is the teacher of one net of the same shape,
and of a tiny one (6 and 8 channels, 24 units), which learn from the same 500 rows: from the labels, or by 0.1 CE +
0.9 KD at temperature 4, or so by one member that is drawn anew at each step. Accuracy on the other 4,500 digits.

    python experiments/distil_nets.py                five seeds: five minutes on two cores

Writes experiments/results/distil_nets.md and .csv.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import tyro

import jaxft as ft
from experiments import report

MEMBERS, BATCH, ROWS = 5, 64, 500
SHAPES: dict[str, dict[str, Any]] = {
    "one net": {"channels": (32, 48), "hidden": 100},
    "tiny net": {"channels": (6, 8), "hidden": 24},
}


@dataclass(frozen=True)
class Config:
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 800
    name: str = "distil_nets"


def net(shape: str, seed: int) -> ft.Model:
    return ft.small_convnet(16, num_labels=10, seed=seed, **SHAPES[shape])


class Trainer:
    """Trains nets on the same rows, one program for each shape and objective."""

    def __init__(self, config: Config):
        digits = ft.data.digits(source="mnist", target="optdigits").source
        columns = {name: np.concatenate([digits.train[name], digits.test[name]]) for name in ("pixels", "labels")}
        order, self.steps = np.random.default_rng(0).permutation(len(columns["labels"])), config.steps
        train, test = ({name: column[part] for name, column in columns.items()} for part in np.split(order, [ROWS]))
        self.rows = ft.data.arrays(train)
        self.test = ft.data.eval_batches(ft.data.arrays(test), batch_size=250)

    def train(self, model: ft.Model, objective: ft.Objective, seed: int) -> ft.Model:
        batches = ft.data.batches(self.rows, batch_size=BATCH, seed=seed)
        step = ft.make_step(model.apply, ft.full(), objective, optax.adam(1e-3))
        frozen, state = step.init(jax.random.key(seed), model.params, batches[0])
        update = jax.jit(step.update, donate_argnums=1)
        for number in range(self.steps):
            state, _ = update(frozen, state, batches[number])
        return model._replace(params=state.delta)

    def accuracy(self, model: ft.Model) -> float:
        return ft.evaluate(model.apply, model.params, self.test)["accuracy"]

    def accuracy_of_all(self, models: list[ft.Model]) -> float:
        """Of the mean of their probabilities."""
        logits = [ft.predict(model.apply, model.params, self.test) for model in models]
        mean = np.mean([np.asarray(jax.nn.softmax(z)) for z in logits], axis=0)
        labels = np.concatenate([batch["labels"][batch["mask"]] for batch in self.test])
        return float(np.mean(mean.argmax(axis=1) == labels))


def runs(config: Config, seed: int) -> list[dict[str, Any]]:
    """All nets of one seed: five members, and students that learn in three ways."""
    trainer = Trainer(config)
    members = [
        trainer.train(net("one net", 100 * seed + place), ft.cross_entropy(), 100 * seed + place)
        for place in range(MEMBERS)
    ]
    rows: list[dict[str, Any]] = [
        {
            "net": "five nets",
            "way": "labels alone, their mean",
            "seed": seed,
            "accuracy": trainer.accuracy_of_all(members),
        }
    ]
    ways: dict[str, Callable[[], ft.Objective]] = {
        "labels alone": ft.cross_entropy,
        "mean of five": lambda: distilled(ft.ensemble(members)),
        "one of five at a step": lambda: distilled(ft.ensemble(members, pick=True)),
    }
    for shape in SHAPES:
        for way, objective in ways.items():
            student = trainer.train(net(shape, 100 * seed + 50), objective(), 100 * seed + 50)
            rows.append({"net": shape, "way": way, "seed": seed, "accuracy": trainer.accuracy(student)})
    return rows


def distilled(teacher: Any) -> ft.Objective:
    soft = ft.knowledge_distillation(teacher, temperature=4.0)
    return ft.combine(task=(ft.cross_entropy(), 0.1), soft=(soft, 0.9))


def page(config: Config, rows: list[dict[str, Any]]) -> str:
    groups = report.grouped(rows, "net", "way")
    values = {key: [row["accuracy"] for row in own] for key, own in groups.items()}
    best = float(np.mean(values["five nets", "labels alone, their mean"]))
    lines = []
    for (shape, way), own in values.items():
        alone = values.get((shape, "labels alone"))
        gap = best - float(np.mean(alone)) if alone else 0.0
        closed = f"{(float(np.mean(own)) - float(np.mean(alone))) / gap:.0%}" if alone and way != "labels alone" else ""
        lines.append((shape, way, report.mean_and_interval(own), closed))
    table = report.markdown_table(("net", "learns from", "accuracy", "of the gap to five closed"), lines)
    return f"""# Five nets into one

`{report.command(__file__, config)}`

{table}

Accuracy on 4,500 digits, the mean of {len(config.seeds)} seeds ± half of Student's 95 % interval. The gap is that
between a net that learns from the labels alone and the mean of five.

{report.machine()}
"""


def main() -> None:
    config = tyro.cli(Config)
    rows: list[dict[str, Any]] = []
    for seed in config.seeds:
        cause = {"seed": seed, "steps": config.steps}
        rows += report.kept(f"{config.name}/{seed}", cause, partial(runs, config, seed))
        print(f"seed {seed}", file=sys.stderr)
    report.write_page(config.name, page(config, rows), rows)


if __name__ == "__main__":
    main()
