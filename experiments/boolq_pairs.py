r"""Can a small encoder learn yes/no questions about a passage, and how much of it must learn for that?

MiniLM on BoolQ, as pairs of question and passage (each with its own token type), mean pooling: 2,880 of the 9,427
training rows, two epochs, batch 32, at most 128 tokens (the longer text, the passage, is cut first; about half of
the pairs are), AdamW with linear warm-up over 10 % of the steps and linear decay. Measured on all 3,270 development
rows, beside the answer "yes" to everything.

    python experiments/boolq_pairs.py                                             about ten minutes on two quiet cores
    python experiments/boolq_pairs.py --rows 4800 --name boolq_pairs_longer       sixteen, with other work beside it

The learning rates were chosen among two, or three where everything learns, by the loss on 480 training rows that no run
learns from, after one epoch over 1,600 others; the development rows took no part. So short a run leaves most methods at
the answer "yes", and the losses are close. `boolq_pairs_longer` was run before the third rate was tried, at 1.5e-4. The
command, with its own table:

    python experiments/boolq_pairs.py --validate --methods head top lora full --rows 1600 --epochs 1 \
        --name boolq_pairs_rates

Result: experiments/results/NAME.md, NAME.csv with every figure of every run and, but for --validate, NAME.png.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

import jaxft as ft
from experiments import methods, report
from jaxft.metrics import classification_metrics

HELD_OUT = 480


METHODS = methods.methods(head=(1e-2, 3e-2), top=(3e-4, 1e-4), lora=(1e-3, 3e-3), full=(4.5e-4, 5e-5, 1.5e-4))


@dataclass(frozen=True)
class Config:
    """The comparison.

    Attributes:
        methods: which rows of the table.
        rows: training rows, the first so many of a fixed order.
        epochs: passes over them.
        seeds: one run each, for the head, the order of the rows and the dropout.
        validate: measure on the last 480 rows of the fixed order of training rows, not on the development rows.
        batch_size: rows a step.
        max_length: tokens a pair.
        name: of the files in experiments/results; when empty, the first method and seed run in this process, which
            prints a line of JSON and writes nothing.
        rate: of that one run; 0 is the rate chosen for the method.
    """

    methods: tuple[str, ...] = ("head", "lora", "full")
    rows: int = 2880
    epochs: int = 2
    seeds: tuple[int, ...] = (0,)
    validate: bool = False
    batch_size: int = 32
    max_length: int = 128
    name: str = "boolq_pairs"
    rate: float = 0.0


def tables(config: Config) -> tuple[ft.data.Table, ft.data.Table]:
    """The rows to learn from and those to measure on."""
    pairs = ft.data.boolq()
    order = np.random.default_rng(0).permutation(len(pairs.train)).tolist()
    train = pairs.train.take(order[:-HELD_OUT][: config.rows])
    return train, pairs.train.take(order[-HELD_OUT:]) if config.validate else pairs.test


def run(config: Config, key: str, seed: int) -> dict[str, Any]:
    """Trains one method with one seed and rate, and measures it."""
    ft.enable_compile_cache()
    method = METHODS[key]._replace(rate=config.rate or METHODS[key].rate)
    model = ft.load_model("minilm", task="classify", labels=["no", "yes"], seed=seed)
    labels = ft.data.Vocabulary(("no", "yes"))
    train, test = (
        ft.data.tokenise(model.tokenizer, table, max_length=config.max_length, labels=labels.ids(table))
        for table in tables(config)
    )
    done = methods.train(model, method, ft.cross_entropy(), train, config, seed)
    batches = ft.data.eval_batches(test, batch_size=64, lengths=done.lengths)
    scores = ft.evaluate(model.apply, done.params, batches)
    return {
        "method": key,
        "seed": seed,
        "rate": method.rate,
        **scores,
        "correct": round(scores["accuracy"] * len(test)),
        "train_rows": len(train),
        "train_cut": train.truncated,
        "test_rows": len(test),
        **done.costs(),
    }


def majority(config: Config) -> dict[str, float]:
    """The figures of the more frequent training answer, given to every row."""
    labels = ft.data.Vocabulary(("no", "yes"))
    train, test = (labels.ids(table) for table in tables(config))
    logits = np.tile(np.eye(2)[np.bincount(train).argmax()], (len(test), 1))
    return classification_metrics(logits, test)


def table(rows: list[dict[str, Any]], baseline: dict[str, float]) -> str:
    """The Markdown table: figures are means over seeds, the interval is Wilson's for one set of rows."""
    names = ("method", "learning rate", "accuracy", "95 % interval", "F1 of yes", "macro F1", "MCC", "cross-entropy")
    interval = f"{baseline['accuracy_low']:.3f} – {baseline['accuracy_high']:.3f}"
    figures = (f"{baseline[name]:.3f}" for name in ("f1_positive", "f1", "mcc"))
    lines = [("always yes", "–", f"{baseline['accuracy']:.3f}", interval, *figures, "–", "0", "–", "–", "–")]
    for own in report.grouped(rows, "method", "rate").values():
        accuracy, low, high = report.mean_accuracy(own)
        figures = (f"{np.mean([row[name] for row in own]):.3f}" for name in ("f1_positive", "f1", "mcc", "loss"))
        shares = (f"{accuracy:.3f}", f"{low:.3f} – {high:.3f}")
        lines.append(
            (METHODS[own[0]["method"]].name, f"{own[0]['rate']:.2g}", *shares, *figures, *methods.cost_cells(own))
        )
    return report.markdown_table((*names, *methods.COSTS), lines)


def page(config: Config, rows: list[dict[str, Any]], figures: str, where: str) -> str:
    """The page written to experiments/results."""
    first = rows[0]
    shown = "" if config.validate else f"\n![accuracy against trained parameters]({config.name}.png)\n"
    measured = "training rows that no run learns from" if config.validate else "development rows"
    return (
        f"# Yes/no questions about a passage\n\n`{report.command(__file__, config)}`\n\n"
        f"MiniLM on BoolQ's pairs of question and passage: {first['train_rows']:,} training rows, {config.epochs} "
        f"epoch{'s' * (config.epochs > 1)}, batch {config.batch_size}, at most {config.max_length} tokens "
        f"({first['train_cut']:,} of the training pairs are cut), seeds {', '.join(map(str, config.seeds))}. "
        f"Measured on {first['test_rows']:,} {measured}, whose 95 % interval is that of the accuracy. The step is "
        f"the median of ten at the full length, the memory the largest of the whole process.\n\n"
        f"{figures}\n\n{where}\n{shown}"
    )


def picture(config: Config, rows: list[dict[str, Any]], baseline: dict[str, float]) -> None:
    """Accuracy against trained parameters."""
    points = [
        report.Point(METHODS[own[0]["method"]].name, own[0]["trained"], *report.mean_accuracy(own))
        for own in report.grouped(rows, "method", "rate").values()
    ]
    report.parameters_picture(
        points,
        report.RESULTS / f"{config.name}.png",
        title="MiniLM on BoolQ",
        figure_name="accuracy",
        baseline=("always yes", baseline["accuracy"]),
    )


def main(config: Config) -> None:
    """Runs every method, seed and rate, prints the table and writes it with its picture."""
    where = report.machine()
    rows = methods.runs(__file__, config, METHODS, run)
    if not rows:
        return
    baseline = majority(config)
    report.write_page(config.name, page(config, rows, table(rows, baseline), where), rows)
    if not config.validate:
        picture(config, rows, baseline)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
