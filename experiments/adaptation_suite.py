r"""Which way of adapting a small encoder is best, when each gets the learning rate it wants?

Comparisons of parameter-efficient methods are easily decided by the learning rate: each has its own best one, and a
rate found for one flatters it. Here every method chooses among four rates on validation rows with one seed, and is then
trained with three. MiniLM on film sentences: 1,024 training, 512 validation and 2,128 test rows of at most 24 tokens,
96 steps of 16 rows with AdamW, linear warm-up over 10 % of the steps and linear decay, the model's dropout. All methods
train the head as well.

Beside the accuracy there are accuracy on Amazon reviews, which nothing was trained on, and what was kept of the base:
the rank correlation, before and after, of the similarities of 400 sentences of the New York Times (cosine of mean
states); it is 1 where nothing was forgotten. FLOPs and bytes are the compiler's for a step. The time of a step is over
that of LoRA's, the two taking turns in one process.

    python experiments/adaptation_suite.py                                       all methods, an hour on two cores
    python experiments/adaptation_suite.py --methods lora dora --name pair       two of them

Writes experiments/results/adaptation_suite.md, .csv and .png. A method that is done is kept in a file of the folder of
that name: what is killed goes on where it stopped when the command is given again.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import tyro
from scipy.stats import spearmanr

import jaxft as ft
from experiments import report, suite

LENGTH, BATCH, STEPS, TIMED = 24, 16, 96, 15


@dataclass(frozen=True)
class Config:
    methods: tuple[str, ...] = tuple(suite.METHODS)
    seeds: tuple[int, ...] = (0, 1, 2)
    name: str = "adaptation_suite"


class Rows:
    """The rows of every part, as tokens."""

    def __init__(self, model: ft.Model):
        movies, amazon, times = (ft.data.sentiment(name) for name in ("movies", "amazon", "nyt"))
        order = np.random.default_rng(0).permutation(len(movies.train)).tolist()

        def tokens(table: Any, labels: Any) -> ft.data.Dataset:
            ids = None if labels is None else labels.ids(table)
            return ft.data.tokenise(model.tokenizer, table, max_length=LENGTH, labels=ids)

        self.train = tokens(movies.train.take(order[:1024]), movies.labels)
        self.validation = tokens(movies.train.take(order[1024:1536]), movies.labels)
        self.test = tokens(movies.test, movies.labels)
        self.elsewhere = tokens(amazon.test, amazon.labels)
        self.held_out = tokens(times.test.take(range(400)), None)


class Program:
    """A method's step and forward pass, compiled once for every learning rate and seed."""

    def __init__(self, method: suite.Method, rows: Rows):
        self.method, self.rows = method, rows
        self.update = jax.jit(lambda frozen, state, batch, rate: self.step(rate).update(frozen, state, batch))
        self.outputs = jax.jit(suite.base().apply)

    def step(self, rate: Any) -> ft.Step:
        optimizer = self.method.optimizer(ft.adamw(ft.warmup_linear(rate, STEPS)), STEPS)
        return ft.make_step(suite.base().apply, self.method.adaptation, self.method.objective, optimizer)

    def train(self, rate: float, seed: int) -> Any:
        """The adapted params."""
        batches = ft.data.batches(self.rows.train, batch_size=BATCH, seed=seed)
        frozen, state = self.step(rate).init(jax.random.key(seed), suite.base(seed).params, batches[0])
        for index in range(STEPS):
            state, _ = self.update(frozen, state, batches[index], rate)
        return self.method.adaptation.bind(frozen.model, state.delta)

    def timer(self) -> Callable[[], float]:
        """A function that takes one step and says how many seconds it took."""
        batch = ft.data.batches(self.rows.train, batch_size=BATCH, seed=0)[0]
        frozen, state = self.step(1e-3).init(jax.random.key(0), suite.base().params, batch)

        def seconds() -> float:
            began = time.perf_counter()
            jax.block_until_ready(self.update(frozen, state, batch, 1e-3))
            return time.perf_counter() - began

        return seconds

    def outputs_of(self, params: Any, rows: ft.data.Dataset) -> ft.Outputs:
        """Logits and features of every row."""
        found = []
        for batch in ft.data.eval_batches(rows, batch_size=2 * BATCH):
            outputs = self.outputs(params, {name: batch[name] for name in ("input_ids", "attention_mask")})
            found.append([np.asarray(part)[batch["mask"]] for part in (outputs.logits, outputs.features)])
        return ft.Outputs(*map(np.concatenate, zip(*found, strict=True)))

    def accuracy(self, params: Any, rows: ft.data.Dataset) -> float:
        return float((self.outputs_of(params, rows).logits.argmax(-1) == rows.columns["labels"]).mean())

    def kept(self, params: Any) -> float:
        """Rank correlation of the similarities of held-out sentences with those of the base."""
        before, after = (self._similarities(tree) for tree in (suite.base().params, params))
        return float(spearmanr(before, after).statistic)

    def _similarities(self, params: Any) -> np.ndarray:
        features = self.outputs_of(params, self.rows.held_out).features
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        return (unit @ unit.T)[np.triu_indices(len(unit), 1)]

    def cost(self) -> Any:
        batch = ft.data.batches(self.rows.train, batch_size=BATCH, seed=0)[0]
        return ft.cost(self.step(1e-3), suite.base().params, batch)


def over_lora(program: Program) -> float:
    """The time of a step over that of LoRA's: the median of pairs that take turns."""
    pair = [program.timer(), Program(suite.METHODS["lora"], program.rows).timer()]
    ratios = [pair[0]() / pair[1]() for _ in range(TIMED + 2)]
    return float(np.median(ratios[2:]))


def run(config: Config, key: str) -> list[dict[str, Any]]:
    """The runs of one method: the search with one seed, and the chosen rate with all."""
    method = suite.METHODS[key]
    program = Program(method, Rows(suite.base()))
    found = {}
    for rate in method.rates:
        params = program.train(rate, config.seeds[0])
        found[rate] = program.accuracy(params, program.rows.validation)
    rate = max(found, key=lambda one: (found[one], -one))
    cost, ratio, rows = program.cost(), over_lora(program), []
    for seed in config.seeds:
        params = program.train(rate, seed)
        rows.append(
            {
                "method": method.name,
                "rate": rate,
                "edge": rate in (min(method.rates), max(method.rates)),
                "seed": seed,
                "accuracy": program.accuracy(params, program.rows.test),
                "test_rows": len(program.rows.test),
                "elsewhere": program.accuracy(params, program.rows.elsewhere),
                "kept": program.kept(params),
                "trained": cost.trained,
                "gflop": cost.flops / 1e9,
                "temporary_mib": cost.temporary_bytes / 2**20,
                "arguments_mib": cost.argument_bytes / 2**20,
                "step_over_lora": ratio,
                "validation": found[rate],
            }
        )
    return [{**row, "correct": round(row["accuracy"] * row["test_rows"])} for row in rows]


COLUMNS = (
    *("method", "learning rate", "accuracy", "95 % interval", "over seeds", "Amazon", "kept of the base"),
    *("trained parameters", "GFLOP a step", "MiB given + temporary", "step / LoRA"),
)


def line(rows: list[dict[str, Any]], bold: bool) -> tuple[str, ...]:
    """A method in the table."""
    first = rows[0]
    mean, low, high = report.mean_accuracy(rows)
    seeds = [row["accuracy"] for row in rows]
    mark = "**" if bold else ""
    return (
        f"{mark}{first['method']}{mark}",
        f"{first['rate']:g}{' (edge)' if first['edge'] else ''}",
        f"{mean:.3f}",
        f"{low:.3f} – {high:.3f}",
        f"{min(seeds):.3f} – {max(seeds):.3f}",
        f"{np.mean([row['elsewhere'] for row in rows]):.3f}",
        f"{np.mean([row['kept'] for row in rows]):.3f}",
        f"{first['trained']:,}",
        f"{first['gflop']:.1f}",
        f"{first['arguments_mib']:.0f} + {first['temporary_mib']:.0f}",
        f"{first['step_over_lora']:.2f}",
    )


def best_and_equal(groups: dict[str, list[dict[str, Any]]]) -> set[str]:
    """The most accurate method, and those that a paired t test over the seeds, Holm-corrected, finds no worse."""
    seeds = {name: [row["accuracy"] for row in rows] for name, rows in groups.items()}
    best = max(seeds, key=lambda name: float(np.mean(seeds[name])))
    others = [name for name in seeds if name != best]
    if not others or len(seeds[best]) < 2:
        return {best}
    values = ft.study.holm([ft.study.paired_test(seeds[best], seeds[name]) for name in others])
    return {best} | {name for name, value in zip(others, values, strict=True) if value >= 0.05}


def page(config: Config, rows: list[dict[str, Any]]) -> str:
    groups = report.by_method(rows)
    equal = best_and_equal(groups)
    bold = equal if len(equal) < len(groups) else set()
    told = (
        "Bold: the best, and what a paired t test over the seeds with Holm's correction does not tell from it."
        if bold
        else f"A paired t test over {len(config.seeds)} seeds with Holm's correction tells no method from the best."
    )
    order = sorted(groups, key=lambda name: -float(np.mean([row["accuracy"] for row in groups[name]])))
    table = report.markdown_table(COLUMNS, [line(groups[name], name in bold) for name in order])
    return f"""# Adapting MiniLM in {len(groups)} ways

`{report.command(__file__, config)}`

{table}

Accuracy on {rows[0]["test_rows"]:,} film sentences, the mean of {len(config.seeds)} seeds, with Wilson's interval of
one test set and the range over seeds. {told}

Learning rates were chosen among four on validation rows; "(edge)" is the smallest or largest of them. "Amazon" is
accuracy on reviews that nothing was trained on, "kept of the base" the rank correlation of sentence similarities before
and after.

![accuracy and trained parameters]({config.name}.png)

{report.machine()}
"""


def main() -> None:
    config = tyro.cli(Config)
    if unknown := set(config.methods) - set(suite.METHODS):
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among {', '.join(suite.METHODS)}")
    if not config.name:
        print(json.dumps({"rows": run(config, config.methods[0])}))
        return
    rows: list[dict[str, Any]] = []
    for key in config.methods:
        print(suite.METHODS[key].name, file=sys.stderr)
        options = {"methods": (key,), "seeds": config.seeds, "name": ""}
        fresh = partial(report.in_own_process, __file__, options)
        rows += report.kept(f"{config.name}/{key}", options, fresh)["rows"]
    report.write_page(config.name, page(config, rows), rows)
    points = [
        report.Point(name, own[0]["trained"], *report.mean_accuracy(own))
        for name, own in report.by_method(rows).items()
    ]
    title = "MiniLM on film sentences, each method at its own rate"
    report.ranked_picture(points, report.RESULTS / f"{config.name}.png", title=title)


if __name__ == "__main__":
    main()
