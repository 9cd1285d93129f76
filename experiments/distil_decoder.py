r"""What does a teacher add to a decoder that keeps a third or half of its layers?

SmolLM2-135M-Instruct (30 layers) learns with LoRA to write whether a product review is negative or positive, from 1,024
labelled rows, as in `label_budget.py`: the teacher. Students keep every third or every second of its layers, with the
adapters merged, its embeddings and final norm, and learn whole from the same rows, three epochs of batches of 8 with
AdamW at 1e-4, warm-up over a tenth of the steps and linear decay: from the words alone, or from the words and the
teacher's predictions of them (CE + generalised JSD with beta 0.1, its whole vocabulary). Accuracy on 400 test rows;
FLOPs of a row are the compiler's.

    python experiments/distil_decoder.py                         three seeds
    python experiments/distil_decoder.py --layers 10             one size

Writes experiments/results/distil_decoder.md and .csv. A student that is done is kept in a file of the folder of that
name: what is killed goes on where it stopped when the command is given again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import tyro

import jaxft as ft
from experiments import label_budget, report
from jaxft.weights import materialise_all

ROWS, EPOCHS, RATE, TOKENS = 1024, 3, 1e-4, 32
WAYS = ("words alone", "words and teacher")


@dataclass(frozen=True)
class Config:
    layers: tuple[int, ...] = (10, 15)
    seeds: tuple[int, ...] = (0, 1, 2)
    name: str = "distil_decoder"


class Setting:
    """The rows, the teacher, and its students."""

    def __init__(self) -> None:
        self.task = label_budget.Experiment(label_budget.Config())

    @cached_property
    def teacher(self) -> ft.Model:
        """Trained once; a later run loads it."""
        folder = report.RESULTS.parent.parent / "build" / "distil_decoder"
        if not folder.exists():
            adaptation, rate = label_budget.TUNED["LoRA"]
            batches, steps = self.task.batches(ROWS, 0), self.task.steps(ROWS)
            params = label_budget.fit(self.task.model, adaptation, ft.cross_entropy(), rate, batches, steps, 0)
            ft.save_model(self.task.model._replace(params=materialise_all(params)), folder)
        return ft.load_model(folder, task="lm")

    def small(self, layers: int) -> ft.Model:
        depth = self.teacher.config.num_layers
        return ft.distil.shrink(self.teacher, layers=range(depth // layers - 1, depth, depth // layers))

    def student(self, layers: int, way: str, seed: int) -> float:
        """Its accuracy."""
        objective = ft.cross_entropy()
        if way == "words and teacher":
            objective = ft.combine(words=objective, soft=ft.gkd(self.teacher, beta=0.1))
        model, steps = self.small(layers), EPOCHS * ROWS // label_budget.BATCH
        params = label_budget.fit(model, ft.full(), objective, RATE, self.task.batches(ROWS, 0, seed), steps, seed)
        return self.task.right(model._replace(params=params))


def page(config: Config, rows: list[dict[str, Any]]) -> str:
    lines = []
    for (layers, way), own in report.grouped(rows, "layers", "way").items():
        accuracies = [row["accuracy"] for row in own]
        seeds = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        lines.append((str(layers), way, f"{np.mean(accuracies):.3f}", seeds, f"{own[0]['gflop']:.2f}"))
    columns = ("layers", "learns from", "accuracy", "seeds", "GFLOP a row")
    return f"""# A shallower SmolLM2

`{report.command(__file__, config)}`

{report.markdown_table(columns, lines)}

Accuracy on 400 product reviews; one teacher, students with {len(config.seeds)} seeds of the order of the rows; a row
has {TOKENS} tokens.

{report.machine()}
"""


def main() -> None:
    config = tyro.cli(Config)
    ft.enable_compile_cache()
    setting = Setting()
    teacher = report.kept(f"{config.name}/teacher", {"rows": ROWS}, lambda: setting.task.right(setting.teacher))
    gflop = label_budget.row_gflop(setting.teacher, setting.teacher.params, TOKENS)
    rows = [{"layers": 30, "way": "words, LoRA: the teacher", "seed": 0, "accuracy": teacher, "gflop": gflop}]
    for layers in config.layers:
        small = setting.small(layers)
        gflop = label_budget.row_gflop(small, small.params, TOKENS)
        for way in WAYS:
            for seed in config.seeds:
                cause = {"layers": layers, "way": way, "seed": seed, "epochs": EPOCHS, "rate": RATE}
                file = f"{config.name}/{layers}-{way.replace(' ', '_')}-{seed}"
                accuracy = report.kept(file, cause, partial(setting.student, layers, way, seed))
                print(f"{layers} layers, {way}, seed {seed}: {accuracy:.3f}", file=sys.stderr)
                rows.append({"layers": layers, "way": way, "seed": seed, "accuracy": accuracy, "gflop": gflop})
    report.write_page(config.name, page(config, rows), rows)


if __name__ == "__main__":
    main()
