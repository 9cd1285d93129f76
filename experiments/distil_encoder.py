r"""What does a teacher add to a small encoder of three or two layers?

MiniLM (6 layers) fine-tuned on 4,096 film sentences of at most 24 tokens, three epochs of batches of 32 with AdamW at
1e-4, is the teacher. Students are its layers 1, 3 and 5, or 2 and 5, with its embeddings and head, trained on the same
rows for three epochs at 3e-4: from the labels alone; by knowledge distillation (½ CE + ½ KD at temperature 2); as
DistilBERT is (CE, KD at temperature 2, cosine of the last states); as TinyBERT (CE, KD, hidden states and attention by
layer); as MiniLM (CE, KD, attention and values of the last layer). Where a loss reads predictions and states alone, the
teacher is asked once for every row (`ft.distil.remember`). All with linear warm-up over 10 % of the steps, linear decay
and the model's dropout. Accuracy on 2,128 test sentences; FLOPs of a forward pass are the compiler's.

    python experiments/distil_encoder.py                    three seeds: an hour on two cores
    python experiments/distil_encoder.py --students "3 layers" --ways "labels alone" KD DistilBERT        twenty minutes

Writes experiments/results/distil_encoder.md and .csv. A student that is done is kept in a file of the folder of that
name: what is killed goes on where it stopped when the command is given again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import jaxft as ft
from experiments import report

LENGTH, BATCH = 24, 32
LAYERS = {"3 layers": (1, 3, 5), "2 layers": (2, 5)}
WAYS = ("labels alone", "KD", "DistilBERT", "TinyBERT", "MiniLM")


@dataclass(frozen=True)
class Config:
    seeds: tuple[int, ...] = (0, 1, 2)
    students: tuple[str, ...] = tuple(LAYERS)
    ways: tuple[str, ...] = WAYS
    rows: int = 4096
    epochs: int = 3
    name: str = "distil_encoder"


class Setting:
    """Rows, the teacher, and what it says of the rows."""

    def __init__(self, config: Config):
        self.config = config
        movies = ft.data.sentiment("movies")
        order = np.random.default_rng(0).permutation(len(movies.train)).tolist()[: config.rows]
        base = ft.load_model("minilm", task="classify", labels=list(movies.labels.names))

        def tokens(table: ft.data.Table) -> ft.data.Dataset:
            return ft.data.tokenise(base.tokenizer, table, max_length=LENGTH, labels=movies.labels.ids(table))

        self.train_rows = tokens(movies.train.take(order))
        self.test = ft.data.eval_batches(tokens(movies.test), batch_size=128, lengths=(LENGTH,))
        folder = report.RESULTS.parent.parent / "build" / "distil_encoder"
        self.teacher = self._teacher(base, folder)
        self.told = ft.distil.remember(self.teacher, self.train_rows, hidden_states=(-1,))

    def _teacher(self, base: ft.Model, folder: Path) -> ft.Model:
        """Trained once; a later run loads it."""
        if not folder.exists():
            ft.save_model(self.train(base, ft.cross_entropy(), self.train_rows, 1e-4, seed=0), folder)
        return ft.load_model(folder, task="classify")

    def train(
        self, model: ft.Model, objective: ft.Objective, rows: ft.data.Dataset, rate: float, seed: int
    ) -> ft.Model:
        batches = ft.data.batches(rows, batch_size=BATCH, seed=seed, lengths=(LENGTH,))
        steps = self.config.epochs * batches.steps_per_epoch
        step = ft.make_step(model.apply, ft.full(), objective, ft.adamw(ft.warmup_linear(rate, steps)))
        frozen, state = step.init(jax.random.key(seed), model.params, batches[0])
        update = jax.jit(step.update, donate_argnums=1)
        for number in range(steps):
            state, _ = update(frozen, state, batches[number])
        return model._replace(params=state.delta)

    def accuracy(self, model: ft.Model) -> float:
        return ft.evaluate(model.apply, model.params, self.test)["accuracy"]

    def student(self, layers: tuple[int, ...], way: str, seed: int) -> float:
        """Test accuracy of a student."""
        depth, teacher = len(layers), self.teacher
        pairs = {0: 0} | {place + 1: layer + 1 for place, layer in enumerate(layers)}
        soft = (ft.knowledge_distillation(None, temperature=2.0), 0.5)
        task = (ft.cross_entropy(), 0.5)
        objectives: dict[str, Callable[[], ft.Objective]] = {
            "labels alone": ft.cross_entropy,
            "KD": lambda: ft.combine(task=task, soft=soft),
            "DistilBERT": lambda: ft.combine(task=task, soft=soft, cosine=ft.hidden_cosine(None)),
            "TinyBERT": lambda: ft.combine(task=task, soft=soft, deep=(ft.tinybert(teacher, layers=pairs), 0.1)),
            "MiniLM": lambda: ft.combine(task=task, soft=soft, deep=(ft.minilm(teacher, layer=depth), 1.0)),
        }
        rows = self.train_rows if way == "labels alone" else self.told
        small = ft.distil.shrink(teacher, layers=layers)
        return self.accuracy(self.train(small, objectives[way](), rows, 3e-4, seed))

    def gflop(self, model: ft.Model) -> float:
        """Of a forward pass over one row of 24 tokens, by the compiler."""
        batch = {name: np.ones((1, LENGTH), np.int32) for name in ("input_ids", "attention_mask")}
        program = jax.jit(lambda params, batch: model.apply(params, batch).logits)
        figures: Any = program.lower(model.params, batch).compile().cost_analysis()
        return float(figures["flops"]) / 1e9


def page(config: Config, rows: list[dict[str, Any]]) -> str:
    lines = []
    for (depth, way), own in report.grouped(rows, "student", "way").items():
        accuracies = [row["accuracy"] for row in own]
        alone = [row["accuracy"] for row in rows if row["student"] == depth and row["way"] == "labels alone"]
        gain = f"{np.mean(accuracies) - np.mean(alone):+.3f}" if alone and way != "labels alone" else ""
        seeds = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        lines.append((depth, way, f"{np.mean(accuracies):.3f}", seeds, gain, f"{own[0]['gflop']:.3f}"))
    columns = ("student", "learns by", "accuracy", "seeds", "over labels alone", "GFLOP a row")
    return f"""# A smaller MiniLM

`{report.command(__file__, config)}`

{report.markdown_table(columns, lines)}

Accuracy on 2,128 film sentences; one teacher, students with {len(config.seeds)} seeds of order and dropout.

{report.machine()}
"""


def main() -> None:
    config = tyro.cli(Config)
    if unknown := [*({*config.students} - {*LAYERS}), *({*config.ways} - {*WAYS})]:
        raise SystemExit(f"unknown: {unknown}; students are {', '.join(LAYERS)}, ways {', '.join(WAYS)}")
    ft.enable_compile_cache()
    setting = Setting(config)
    teacher = {"student": "teacher, 6 layers", "way": "labels alone", "seed": 0}
    rows = [teacher | {"accuracy": setting.accuracy(setting.teacher), "gflop": setting.gflop(setting.teacher)}]
    for depth in config.students:
        layers = LAYERS[depth]
        gflop = setting.gflop(ft.distil.shrink(setting.teacher, layers=layers))
        for way in config.ways:
            for seed in config.seeds:
                cause = {"rows": config.rows, "epochs": config.epochs, "layers": layers, "way": way, "seed": seed}
                file = f"{config.name}/{len(layers)}-{way.lower().replace(' ', '_')}-{seed}"
                accuracy = report.kept(file, cause, partial(setting.student, layers, way, seed))
                print(f"{depth}, {way}, seed {seed}: {accuracy:.3f}", file=sys.stderr)
                rows.append({"student": depth, "way": way, "seed": seed, "accuracy": accuracy, "gflop": gflop})
    report.write_page(config.name, page(config, rows), rows)


if __name__ == "__main__":
    main()
