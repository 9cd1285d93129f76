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

import json
import sys
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

import jaxft as ft
from experiments import report


class Method(NamedTuple):
    """One row of the table: its name, what learns, and the peak learning rate."""

    name: str
    adaptation: ft.Adaptation
    rate: float


METHODS = {
    "head": Method("head only", ft.tune("head/**"), 1e-2),
    "top": Method("top two layers", ft.tune(["encoder/layer_{4,5}/**", "head/**"]), 1e-4),
    "lora": Method(
        "LoRA, rank 8",
        ft.chain(ft.lora("**/attention/{query,value}/kernel", rank=8, alpha=16), ft.tune("head/**")),
        1e-3,
    ),
    "full": Method("full fine-tuning", ft.full(), 5e-5),
}


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
    """

    methods: tuple[str, ...] = tuple(METHODS)
    rows: int = 2110
    epochs: int = 2
    seeds: tuple[int, ...] = (0,)
    batch_size: int = 32
    max_length: int = 48
    name: str = "adaptation_methods"


def run(config: Config, key: str, seed: int) -> dict[str, Any]:
    """Trains one method with one seed and measures it."""
    ft.enable_compile_cache()
    method = METHODS[key]
    model = ft.load_model("minilm", task="classify", labels=["negative", "positive"], seed=seed)
    movies = ft.data.sentiment("movies")

    def tokens(table: Any) -> Any:
        labels = movies.labels.ids(table)
        return ft.data.tokenise(model.tokenizer, table, max_length=config.max_length, labels=labels)

    chosen = np.random.default_rng(0).permutation(len(movies.train))[: config.rows].tolist()
    train, test = tokens(movies.train.take(chosen)), tokens(movies.test)
    lengths = tuple(config.max_length * share // 4 for share in (2, 3, 4))
    batches = ft.data.batches(train, batch_size=config.batch_size, seed=seed, lengths=lengths)
    steps = config.epochs * batches.steps_per_epoch

    step = ft.make_step(
        model.apply, method.adaptation, ft.cross_entropy(), ft.adamw(ft.warmup_linear(method.rate, steps))
    )
    frozen, state = step.init(jax.random.key(seed), model.params, batches[0])
    start = time.perf_counter()
    state = ft.fit(step, frozen, state, batches, steps=steps).state
    minutes = (time.perf_counter() - start) / 60

    params = method.adaptation.bind(frozen.model, state.delta)
    scores = ft.evaluate(model.apply, params, ft.data.eval_batches(test, batch_size=64, lengths=lengths))
    full_length = ft.data.batches(train, batch_size=config.batch_size, seed=0)
    return {
        "method": key,
        "seed": seed,
        "correct": round(scores["accuracy"] * len(test)),
        "train_rows": len(train),
        "test_rows": len(test),
        "trained": report.trained_parameters(state.delta),
        "step_ms": report.step_milliseconds(step, frozen, state, full_length),
        "memory_mib": report.peak_mebibytes(),
        "minutes": minutes,
    }


def in_own_process(config: Config, method: str, seed: int) -> dict[str, Any]:
    """Runs one method and seed in a fresh interpreter."""
    values = vars(config) | {"name": "", "seeds": (seed,), "methods": (method,)}
    return report.in_own_process(__file__, values)


def table(rows: list[dict[str, Any]]) -> str:
    """The Markdown table: accuracy is the mean over seeds, its interval Wilson's for one test set."""
    names = ("method", "learning rate", "accuracy", "95 % interval", "seeds", "trained parameters", "step")
    lines = []
    for key, own in report.by_method(rows).items():
        accuracy, low, high = report.mean_accuracy(own)
        step, memory, minutes = (
            float(np.median([row[k] for row in own])) for k in ("step_ms", "memory_mib", "minutes")
        )
        seeds = ", ".join(f"{row['correct'] / row['test_rows']:.3f}" for row in own)
        figures = (f"{METHODS[key].rate:g}", f"{accuracy:.3f}", f"{low:.3f} – {high:.3f}", seeds)
        costs = (f"{own[0]['trained']:,}", f"{step:.0f} ms", f"{memory:,.0f} MiB", f"{minutes:.1f} min")
        lines.append((METHODS[key].name, *figures, *costs))
    return report.markdown_table((*names, "peak memory", "training"), lines)


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
    if unknown := set(config.methods) - set(METHODS):
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among {sorted(METHODS)}")
    if not config.name:
        print(json.dumps(run(config, config.methods[0], config.seeds[0])))
        return
    rows = []
    for seed in config.seeds:
        for method in config.methods:
            print(f"{METHODS[method].name}, seed {seed}", file=sys.stderr)
            rows.append(in_own_process(config, method, seed))
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / f"{config.name}.md").write_text(page(config, rows))
    points = [
        report.Point(METHODS[k].name, own[0]["trained"], *report.mean_accuracy(own))
        for k, own in report.by_method(rows).items()
    ]
    report.parameters_picture(points, report.RESULTS / f"{config.name}.png", title="MiniLM on movie reviews")
    print(table(rows))
    print(f"\n{report.RESULTS / config.name}.md and .png")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
