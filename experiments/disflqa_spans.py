"""How far do 600 questions carry an encoder that has never answered one?

MiniLM on the packaged Disfl-QA: questions with the slips of speech ("What, no, where …"), each answered by a span of a
passage. 600 to learn from, 155 about other passages to measure on; questions without an answer are left out, and the
package holds no fluent original to compare with. Windows of 256 tokens that share 64, batch 16, eight epochs, AdamW
with linear warm-up over 10 % of the steps and linear decay. Exact match and F1 are SQuAD's, over all windows.

    python experiments/disflqa_spans.py                                      44 minutes on two cores beside other work
    python experiments/disflqa_spans.py --epochs 2 --methods head lora --name quick

Two baselines read no model: the first sentence of the passage, and a span of 1 to 8 words drawn at random.

The learning rates were chosen among two, or three where everything learns, by the F1 on the questions about every fifth
training passage, after three epochs over those about the others; the test questions took no part. The command, with its
own table:

    python experiments/disflqa_spans.py --validate --epochs 3 --name disflqa_spans_rates

Result: experiments/results/NAME.md, NAME.csv with every figure of every run and, but for --validate, NAME.png.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

import jaxft as ft
from experiments import methods, report
from jaxft.metrics import answer_metrics, wilson_interval

LONGEST_RANDOM = 8


METHODS = methods.methods(head=(3e-2, 1e-2), lora=(1e-3, 3e-3), full=(1.5e-4, 5e-5, 4.5e-4))


@dataclass(frozen=True)
class Config:
    """The comparison.

    Attributes:
        methods: which rows of the table.
        rows: training questions, the first so many.
        epochs: passes over their windows.
        seeds: one run each, for the head, the order of the windows and the dropout.
        validate: measure on the questions about every fifth training passage, which then teach nothing, in place of the
            test questions.
        batch_size: windows a step.
        max_length: tokens a window.
        stride: tokens of the passage that neighbouring windows share.
        name: of the files in experiments/results; when empty, the first method and seed run in this process, which
            prints a line of JSON and writes nothing.
        rate: of that one run; 0 is the rate chosen for the method.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    rows: int = 600
    epochs: int = 8
    seeds: tuple[int, ...] = (0,)
    validate: bool = False
    batch_size: int = 16
    max_length: int = 256
    stride: int = 64
    name: str = "disflqa_spans"
    rate: float = 0.0


def tables(config: Config) -> tuple[ft.data.Table, ft.data.Table]:
    """The questions to learn from and those to measure on, never about the same passage."""
    train, test = ft.data.disflqa()
    if config.validate:
        held_out = set(list(dict.fromkeys(train["context"]))[::5])
        out = [context in held_out for context in train["context"]]
        test = train.take([row for row, is_out in enumerate(out) if is_out])
        train = train.take([row for row, is_out in enumerate(out) if not is_out])
    return train.take(range(min(config.rows, len(train)))), test


def run(config: Config, key: str, seed: int) -> dict[str, Any]:
    """Trains one method with one seed and rate, and measures its answers."""
    ft.enable_compile_cache()
    method = METHODS[key]._replace(rate=config.rate or METHODS[key].rate)
    model = ft.load_model("minilm", task="spans", seed=seed)
    rows = tables(config)
    train, test = (
        ft.data.spans(model.tokenizer, table, max_length=config.max_length, stride=config.stride) for table in rows
    )
    done = methods.train(model, method, ft.span_cross_entropy(), train, config, seed)
    logits = ft.predict(model.apply, done.params, ft.data.eval_batches(test, batch_size=32, lengths=done.lengths))
    return {
        "method": key,
        "seed": seed,
        "rate": method.rate,
        **figures(ft.data.span_answers(test, logits), rows[1]["answers"]),
        "train_rows": len(rows[0]),
        "train_windows": len(train),
        "test_rows": len(rows[1]),
        "test_windows": len(test),
        **done.costs(),
    }


def figures(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match with Wilson's interval, and F1 with the percentiles of its mean over resampled questions."""
    scores = [answer_metrics([guess], [true]) for guess, true in zip(predictions, answers, strict=True)]
    f1 = np.array([score["f1"] for score in scores])
    exact = sum(score["exact_match"] for score in scores)
    low, high = wilson_interval(round(exact), len(scores))
    drawn = np.random.default_rng(0).integers(0, len(f1), (10_000, len(f1)))
    f1_low, f1_high = np.quantile(f1[drawn].mean(axis=1), [0.025, 0.975])
    return {
        "exact_match": exact / len(scores),
        "exact_match_low": low,
        "exact_match_high": high,
        "f1": float(f1.mean()),
        "f1_low": float(f1_low),
        "f1_high": float(f1_high),
    }


def baselines(test: ft.data.Table) -> dict[str, dict[str, float]]:
    """The figures of answers that are found without a model."""
    random = np.random.default_rng(0)

    def anywhere(context: str) -> str:
        words = context.split()
        length = min(int(random.integers(1, LONGEST_RANDOM + 1)), len(words))
        start = int(random.integers(0, len(words) - length + 1))
        return " ".join(words[start : start + length])

    return {
        "a random span": figures([anywhere(context) for context in test["context"]], test["answers"]),
        "the first sentence": figures([context.split(" . ")[0] for context in test["context"]], test["answers"]),
    }


def table(rows: list[dict[str, Any]], without: dict[str, dict[str, float]]) -> str:
    """The Markdown table: every figure is the mean over seeds."""
    names = ("method", "learning rate", "exact match", "95 % interval", "F1", "95 % interval", *methods.COSTS)
    lines = [(name, "–", *cells([own]), "0", "–", "–", "–") for name, own in without.items()]
    for own in report.grouped(rows, "method", "rate").values():
        name = METHODS[own[0]["method"]].name
        lines.append((name, f"{own[0]['rate']:.2g}", *cells(own), *methods.cost_cells(own)))
    return report.markdown_table(names, lines)


def cells(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Exact match and F1 with their intervals."""
    found = []
    for name in ("exact_match", "f1"):
        value, low, high = (np.mean([row[name + end] for row in rows]) for end in ("", "_low", "_high"))
        found += [f"{value:.3f}", f"{low:.3f} – {high:.3f}"]
    return tuple(found)


def page(config: Config, rows: list[dict[str, Any]], results: str, where: str) -> str:
    """The page written to experiments/results."""
    first = rows[0]
    shown = "" if config.validate else f"\n![F1 against trained parameters]({config.name}.png)\n"
    measured = "training questions about passages that no run learns from" if config.validate else "test questions"
    return (
        f"# Answers as spans of a passage\n\n`{report.command(__file__, config)}`\n\n"
        f"MiniLM on Disfl-QA: {first['train_rows']:,} training questions in {first['train_windows']:,} windows of at "
        f"most {config.max_length} tokens that share {config.stride}, {config.epochs} epochs, batch "
        f"{config.batch_size}, seeds {', '.join(map(str, config.seeds))}. Measured on {first['test_rows']:,} "
        f"{measured} ({first['test_windows']:,} windows): Wilson's interval of exact match, the bootstrap's of F1. The "
        f"step is the median of ten at the full length, the memory the largest of the whole process.\n\n"
        f"{results}\n\n{where}\n{shown}"
    )


def picture(config: Config, rows: list[dict[str, Any]], without: dict[str, dict[str, float]]) -> None:
    """F1 against trained parameters."""
    points = []
    for own in report.grouped(rows, "method", "rate").values():
        f1, low, high = (float(np.mean([row[name] for row in own])) for name in ("f1", "f1_low", "f1_high"))
        points.append(report.Point(METHODS[own[0]["method"]].name, own[0]["trained"], f1, low, high))
    report.parameters_picture(
        points,
        report.RESULTS / f"{config.name}.png",
        title="MiniLM on Disfl-QA",
        figure_name="F1 of answers",
        baseline=("the first sentence", without["the first sentence"]["f1"]),
    )


def main(config: Config) -> None:
    """Runs every method, seed and rate, prints the table and writes it with its picture."""
    where = report.machine()
    rows = methods.runs(__file__, config, METHODS, run)
    if not rows:
        return
    without = baselines(tables(config)[1])
    report.write_page(config.name, page(config, rows, table(rows, without), where), rows)
    if not config.validate:
        picture(config, rows, without)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
