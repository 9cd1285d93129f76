r"""Does adapting to an unlabelled domain help when the features are those of a frozen sentence encoder?

Sentiment of four domains (film reviews, product reviews, newspaper editorials, tweets), every ordered pair of them:
MiniLM's mean state of each sentence, computed once, and a net of one hidden layer on it, trained on 2,000 labelled rows
of the source and 2,000 unlabelled ones of the target for 400 steps of 64 + 64 with Adam, rate 1e-3. The moment of a run
is chosen by a criterion that reads held-out rows of the source and 500 unlabelled rows of the target. Accuracy is on
600 test rows of the target. Three weightings of the source's rows and three transforms in closed form come before a
net that the source alone trains; transforms read the features of all rows, without their labels.

    python experiments/sentiment_shift.py                    thirteen methods, twelve pairs, five seeds
    python experiments/sentiment_shift.py --seeds 0          one seed

Writes experiments/results/sentiment_shift.md and .csv. A method that is done is kept in the folder of that name.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations
from typing import Any

import jax
import numpy as np
import optax
import tyro

import jaxft as ft
from experiments import moved, report, shift

DOMAINS = ("movies", "amazon", "nyt", "tweets")
TRAIN, HELD_OUT, TEST, UNLABELLED = 2000, 400, 600, 500
SUPERVISED = "target supervised"
TASK = ft.cross_entropy("source")


def _beside(term: ft.Objective, weight: float) -> shift.Method:
    return shift.Method(lambda steps, _: ft.combine(task=TASK, own=(term, weight)))


def _reversed(term: Any) -> shift.Method:
    return shift.Method(lambda steps, _: ft.combine(task=TASK, own=term(scale=ft.reversal_schedule(steps))))


METHODS: dict[str, shift.Method] = {
    "source only": shift.Method(lambda *_: TASK),
    "DANN": _reversed(ft.dann),
    "CDAN+E": _reversed(partial(ft.cdan, entropy=True)),
    "MMD": _beside(ft.mmd(), 1.0),
    "Deep CORAL": _beside(ft.deep_coral(), 100.0),
    "MCC": _beside(ft.minimum_class_confusion(), 1.0),
    "SHOT": shift.Method(lambda *_: ft.shot("target"), adaptation=ft.freeze("head/**"), begin=400),
}


@dataclass(frozen=True)
class Config:
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    criterion: str = "InfoMax"


@cache
def features(domain: str) -> dict[str, dict[str, np.ndarray]]:
    """Rows of a domain as MiniLM sees them: train, held out of the training rows, test."""
    found = ft.data.sentiment(domain)
    model = ft.load_model("minilm", task="classify", labels=found.labels.names)
    apply = jax.jit(lambda params, batch: model.apply(params, batch).features)
    draw = np.random.default_rng(0)
    seen = draw.permutation(len(found.train)).tolist()
    tables = {
        "train": found.train.take(seen[:TRAIN]),
        "held out": found.train.take(seen[TRAIN : TRAIN + HELD_OUT]),
        "test": found.test.take(draw.permutation(len(found.test)).tolist()[:TEST]),
    }
    return {name: _encoded(model, apply, table, found.labels.ids(table)) for name, table in tables.items()}


def _encoded(model: ft.Model, apply: Any, table: Any, labels: Any) -> dict[str, np.ndarray]:
    rows = ft.data.tokenise(model.tokenizer, table, max_length=48, labels=labels)
    parts = []
    for batch in ft.data.eval_batches(rows, batch_size=100):
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        parts.append(np.asarray(apply(model.params, inputs))[np.asarray(batch["mask"])])
    return {"features": np.concatenate(parts), "labels": np.asarray(rows.columns["labels"], np.int32)}


@cache
def moved_features(name: str, source: str, target: str) -> tuple[moved.Parts, moved.Parts]:
    """The rows of both domains as a method gives them to the net."""
    ours, theirs = features(source), features(target)
    return moved.MOVES[name](ours, theirs) if name in moved.MOVES else (ours, theirs)


def setting(name: str, source: str, target: str) -> shift.Setting:
    ours, theirs = moved_features(name, source, target)
    learned = theirs["train"] if name == SUPERVISED else ours["train"]
    return shift.Setting(
        lambda seed, _: ft.small_mlp(learned["features"].shape[1], num_labels=2, seed=seed),
        learned,
        {"features": theirs["train"]["features"]},
        {
            "held out": {"features": ours["held out"]["features"]},
            "unlabelled": {"features": theirs["train"]["features"][:UNLABELLED]},
            "test": {"features": theirs["test"]["features"]},
        },
        optax.adam(1e-3),
        steps=400,
        every=40,
    )


def runs(config: Config, name: str) -> list[dict[str, Any]]:
    """All pairs of one method, by one program."""
    rows, program, method = [], None, METHODS.get(name, METHODS["source only"])
    for source, target in permutations(DOMAINS, 2):
        here = setting(name, source, target)
        program = shift.Program(method, here) if program is None else program.on(here)
        held_out, labels = features(source)["held out"]["labels"], features(target)["test"]["labels"]
        for seed, history in zip(config.seeds, program.histories([(seed, 1.0) for seed in config.seeds]), strict=True):
            facts = {"source": source, "target": target, "method": name, "seed": seed}
            rows.append(facts | shift.chosen(history, held_out, labels, config.criterion))
    return rows


def table(rows: list[dict[str, Any]], figure: str) -> str:
    """A line a method, a column a pair, and the mean over all."""
    pairs, groups = list(permutations(DOMAINS, 2)), report.by_method(rows)
    columns = ("method", *(f"{source[0].upper()}→{target[0].upper()}" for source, target in pairs), "mean", "interval")

    def cells(own: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        means = [np.mean([row[figure] for row in own if (row["source"], row["target"]) == pair]) for pair in pairs]
        seeds = sorted({row["seed"] for row in own})
        each = [np.mean([row[figure] for row in own if row["seed"] == seed]) for seed in seeds]
        half = f"± {report.half_interval(each):.3f}" if len(each) > 1 else "–"
        return (*(f"{mean:.3f}" for mean in means), f"{np.mean(each):.3f}", half)

    return report.markdown_table(columns, [(name, *cells(own)) for name, own in groups.items()])


def page(config: Config, rows: list[dict[str, Any]]) -> str:
    return f"""# Sentiment across four domains

`{report.command(__file__, config)}`

M film reviews, A product reviews, N editorials, T tweets; the mean of {len(config.seeds)} seeds, and over all pairs
with half of Student's 95 % interval over the seeds. Density ratio, KLIEP and KMM weigh the source's rows; the CORAL
transform, subspace alignment and transfer components move the features of all rows, those of the test rows too, before
the source alone trains the net.

## At the moment chosen by {config.criterion}

{table(rows, "selected")}

## After the last step

{table(rows, "last")}

{report.machine()}
"""


def main() -> None:
    config = tyro.cli(Config)
    rows: list[dict[str, Any]] = []
    for name in (*METHODS, *moved.MOVES, SUPERVISED):
        began = time.perf_counter()
        cause = {"method": name, "seeds": config.seeds, "criterion": config.criterion}
        file = f"sentiment_shift/{name.lower().replace(' ', '_')}"
        rows += report.kept(file, cause, partial(runs, config, name))
        print(f"{name}, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    report.write_page("sentiment_shift", page(config, rows), rows)


if __name__ == "__main__":
    main()
