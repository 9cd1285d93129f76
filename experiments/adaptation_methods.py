"""How much of a pretrained encoder must learn?  Head only, the top two layers, LoRA on all six, or everything.

MiniLM on the movie reviews of the packaged sentiment set: 8,440 training and 2,128 test rows, batch 32, at most 48
tokens, mean pooling, AdamW with linear warm-up over 10 % of the steps and linear decay.

    python experiments/adaptation_methods.py                                      a quarter of the rows, one seed
    python experiments/adaptation_methods.py --rows 8440 --seeds 0 1 2 --name adaptation_methods_full

Learning rates: head 1e-2, top two layers 1e-4, LoRA (rank 8, alpha 16, query and value) 1e-3, full 5e-5. They were set
before any test row was read and are the same for every seed. Each run has a process of its own, so that its peak memory
is its own. Result: experiments/results/NAME.md and NAME.png.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

import jaxft as ft
from experiments import methods, report

METHODS = methods.methods(head=(1e-2,), top=(1e-4,), lora=(1e-3,), full=(5e-5,))


@dataclass(frozen=True)
class Config:
    """The comparison.

    Attributes:
        methods: which rows of the table.
        rows: training rows, the first so many of a fixed order.
        epochs: passes over them.
        seeds: one run each, for the head, the order of the rows and the dropout.
        batch_size: rows a step.
        max_length: tokens a row.
        name: of the files in experiments/results; when empty, the first method and seed run in this process, which
            prints a line of JSON and writes nothing.
        rate: of that one run; 0 is the rate of the method.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    rows: int = 2110
    epochs: int = 2
    seeds: tuple[int, ...] = (0,)
    batch_size: int = 32
    max_length: int = 48
    name: str = "adaptation_methods"
    rate: float = 0.0


def run(config: Config, key: str, seed: int) -> dict[str, Any]:
    """Trains one method with one seed and measures it."""
    ft.enable_compile_cache()
    method = METHODS[key]._replace(rate=config.rate or METHODS[key].rate)
    model = ft.load_model("minilm", task="classify", labels=["negative", "positive"], seed=seed)
    movies = ft.data.sentiment("movies")

    def tokens(table: Any) -> Any:
        labels = movies.labels.ids(table)
        return ft.data.tokenise(model.tokenizer, table, max_length=config.max_length, labels=labels)

    chosen = np.random.default_rng(0).permutation(len(movies.train))[: config.rows].tolist()
    train, test = tokens(movies.train.take(chosen)), tokens(movies.test)
    done = methods.train(model, method, ft.cross_entropy(), train, config, seed)
    batches = ft.data.eval_batches(test, batch_size=64, lengths=done.lengths)
    scores = ft.evaluate(model.apply, done.params, batches)
    return {
        "method": key,
        "seed": seed,
        "correct": round(scores["accuracy"] * len(test)),
        "train_rows": len(train),
        "test_rows": len(test),
        **done.costs(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The Markdown table: accuracy is the mean over seeds, its interval Wilson's for one test set."""
    names = ("method", "learning rate", "accuracy", "95 % interval", "seeds", *methods.COSTS)
    lines = []
    for key, own in report.by_method(rows).items():
        accuracy, low, high = report.mean_accuracy(own)
        seeds = ", ".join(f"{row['correct'] / row['test_rows']:.3f}" for row in own)
        figures = (f"{METHODS[key].rate:g}", f"{accuracy:.3f}", f"{low:.3f} – {high:.3f}", seeds)
        lines.append((METHODS[key].name, *figures, *methods.cost_cells(own)))
    return report.markdown_table(names, lines)


def page(config: Config, rows: list[dict[str, Any]]) -> str:
    """The page written to experiments/results."""
    return (
        f"# How much of a pretrained encoder must learn?\n\n`{report.command(__file__, config)}`\n\n"
        f"MiniLM, movie reviews: {rows[0]['train_rows']:,} training rows, {config.epochs} epochs, "
        f"batch {config.batch_size}, at most {config.max_length} tokens. "
        f"The interval is that of the {rows[0]['test_rows']:,} test rows. The step "
        f"is the median of ten at the full length, the memory the largest of the whole process; medians over seeds.\n\n"
        f"{table(rows)}\n\n![accuracy against trained parameters]({config.name}.png)\n"
    )


def main(config: Config) -> None:
    """Runs every method and seed, prints the table and writes it with its picture."""
    rows = methods.runs(__file__, config, METHODS, run)
    if not rows:
        return
    report.write_page(config.name, page(config, rows))
    points = [
        report.Point(METHODS[k].name, own[0]["trained"], *report.mean_accuracy(own))
        for k, own in report.by_method(rows).items()
    ]
    report.parameters_picture(points, report.RESULTS / f"{config.name}.png", title="MiniLM on movie reviews")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
