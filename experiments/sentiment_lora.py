r"""Does adapting to an unlabelled domain help when low-rank adapters may change the encoder?

Sentiment of four domains (film reviews, product reviews, newspaper editorials, tweets), every ordered pair of them:
MiniLM with LoRA of rank 8 on all products of its last two layers and a new head, trained on 2,000 labelled rows of the
source and 2,000 unlabelled ones of the target, of at most 24 tokens, for 60 steps of 32 + 32 with Adam, rate 1e-3. What
the four layers below make of a row never changes and is computed once (`ft.study.find_prefix`). A run has three
moments, among which a criterion chooses that reads 200 held-out rows of the source and 300 unlabelled rows of the
target. Accuracy is on 400 test rows of the target.

    python experiments/sentiment_lora.py                    seven methods, twelve pairs, three seeds
    python experiments/sentiment_lora.py --seeds 0          one seed

Writes experiments/results/sentiment_lora.md and .csv. What is done of a method and
seed is kept in a file of the folder of that name: what is killed goes on where it stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import tyro

import jaxft as ft
from experiments import report, sentiment_shift, shift
from experiments.sentiment_shift import DOMAINS, METHODS, SUPERVISED

LENGTH, BATCH, STEPS, EVERY = 24, 32, 60, 20
ROWS = {"train": 2000, "held out": 200, "test": 400}
UNLABELLED = 300
LORA = ft.lora([f"encoder/layer_{layer}/**/kernel" for layer in (4, 5)], rank=8, alpha=16)
ADAPTATION = ft.chain(LORA, ft.tune("head/**"))


@dataclass(frozen=True)
class Config:
    seeds: tuple[int, ...] = (0, 1, 2)
    criterion: str = "InfoMax"


class Domains(NamedTuple):
    """The encoder that starts from what its lower layers made of a row, and the rows of each domain in parts.

    Attributes:
        model: its ``apply`` takes that for the columns of a text.
        parts: domain -> part -> columns.
    """

    model: ft.Model
    parts: Mapping[str, Mapping[str, Mapping[str, Any]]]


@cache
def domains() -> Domains:
    """Read, and passed through the frozen layers, once."""
    read = {name: ft.data.sentiment(name) for name in DOMAINS}
    labels = read[DOMAINS[0]].labels
    model = ft.load_model("minilm", task="classify", labels=labels.names, dropout=0.0)
    parts = {name: _tokens(model, found) for name, found in read.items()}
    example = {name: column[:BATCH] for name, column in _inputs(parts[DOMAINS[0]]["train"]).items()}
    frozen, delta = ADAPTATION.init(jax.random.key(0), model.params)
    known = ft.study.known_leaves(ADAPTATION, frozen, delta, jax.random.key(0))
    prefix = ft.study.find_prefix(model.apply, ADAPTATION.bind(frozen, delta), known, example)
    if prefix is None:
        raise SystemExit("no layer below the adapters is the same in every step")

    def apply(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
        """Without dropout training and evaluation are one program."""
        return prefix.apply(params, batch, train=True, key=jax.random.key(0) if key is None else key)

    for found in parts.values():
        for columns in found.values():
            columns["prefix"] = prefix.columns(_inputs(columns), BATCH)
    return Domains(model._replace(apply=apply), parts)


def _tokens(model: ft.Model, found: Any) -> dict[str, dict[str, Any]]:
    draw = np.random.default_rng(0)
    seen, count = draw.permutation(len(found.train)).tolist(), ROWS["train"]
    tables = {
        "train": found.train.take(seen[:count]),
        "held out": found.train.take(seen[count : count + ROWS["held out"]]),
        "test": found.test.take(draw.permutation(len(found.test)).tolist()[: ROWS["test"]]),
    }
    return {name: _columns(model, table, found.labels.ids(table)) for name, table in tables.items()}


def _columns(model: ft.Model, table: Any, labels: Any) -> dict[str, Any]:
    rows = ft.data.tokenise(model.tokenizer, table, max_length=LENGTH, labels=labels)
    batches = ft.data.eval_batches(rows, batch_size=len(rows), lengths=(LENGTH,))
    return {name: np.asarray(batches[0][name]) for name in ("input_ids", "attention_mask", "labels")}


def _inputs(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: columns[name] for name in ("input_ids", "attention_mask")}


def _unlabelled(columns: Mapping[str, Any], rows: int | None = None) -> dict[str, Any]:
    kept = {name: column for name, column in columns.items() if name != "labels"}
    return jax.tree.map(lambda column: column[:rows], kept)


def method_of(name: str) -> shift.Method:
    """As with frozen features, but that the adapters learn, and where the head is frozen they alone."""
    found = METHODS["source only" if name == SUPERVISED else name]
    if found.begin is None:
        return found._replace(adaptation=ADAPTATION)
    return found._replace(begin=STEPS, before=ADAPTATION, adaptation=LORA)


def setting(source: str, target: str, *, supervised: bool = False) -> shift.Setting:
    found = domains()
    ours, theirs = found.parts[source], found.parts[target]
    return shift.Setting(
        lambda *_: found.model,
        theirs["train"] if supervised else ours["train"],
        _unlabelled(theirs["train"]),
        {
            "held out": _unlabelled(ours["held out"]),
            "unlabelled": _unlabelled(theirs["train"], UNLABELLED),
            "test": _unlabelled(theirs["test"]),
        },
        optax.adam(1e-3),
        steps=STEPS,
        every=EVERY,
        batch_size=BATCH,
    )


def run(name: str, source: str, target: str, seed: int, criterion: str, program: shift.Program) -> dict[str, Any]:
    """A row of the results."""
    found = domains().parts
    history = program.history(seed, 1.0)
    chosen = shift.chosen(history, found[source]["held out"]["labels"], found[target]["test"]["labels"], criterion)
    return {"source": source, "target": target, "method": name, "seed": seed} | chosen


def runs(config: Config, name: str, seed: int) -> list[dict[str, Any]]:
    """All pairs of one method and seed, by one program."""
    rows, program, method = [], None, method_of(name)
    for source, target in permutations(DOMAINS, 2):
        here = setting(source, target, supervised=name == SUPERVISED)
        program = shift.Program(method, here) if program is None else program.on(here)
        rows.append(run(name, source, target, seed, config.criterion, program))
    return rows


def page(config: Config, rows: list[dict[str, Any]]) -> str:
    return f"""# Sentiment across four domains, adapters in the encoder

`{report.command(__file__, config)}`

M film reviews, A product reviews, N editorials, T tweets; LoRA in the last two layers. Means over
{len(config.seeds)} seed{"s" if len(config.seeds) > 1 else ""}; over all pairs with half of Student's 95 % interval
where there are several.

## At the moment chosen by {config.criterion}

{sentiment_shift.table(rows, "selected")}

## After the last step

{sentiment_shift.table(rows, "last")}

{report.machine()}
"""


def main() -> None:
    config = tyro.cli(Config)
    ft.enable_compile_cache()
    rows: list[dict[str, Any]] = []
    for seed in config.seeds:
        for name in (*METHODS, SUPERVISED):
            began = time.perf_counter()
            cause = {"method": name, "seed": seed, "criterion": config.criterion}
            file = f"sentiment_lora/{name.lower().replace(' ', '_')}-{seed}"
            rows += report.kept(file, cause, partial(runs, config, name, seed))
            print(f"{name}, seed {seed}, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    report.write_page("sentiment_lora", page(config, rows), rows)


if __name__ == "__main__":
    main()
