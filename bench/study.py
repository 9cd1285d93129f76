"""Measures studies in this process: python -m bench.study dense|convolution|probes|prefix [LEAST].

The figures are printed as JSON. LEAST is a number of rounds, or of steps an epoch, to see in little time that it works.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxft as ft
from jaxft.study.memory import device_bytes
from jaxft.study.prepare import prepare
from jaxft.study.program import compile_program
from jaxft.study.start import start_of
from jaxft.study.trace import trace

SEEDS, RATES, STEPS, BATCH, REPEATS = 8, (1e-3, 3e-3, 1e-2, 3e-2), 200, 64, 5
PROBES, LENGTH, EPOCHS = 16, 32, 3
pixels, digit = load_digits(return_X_y=True)
IMAGES, LABELS = (pixels / 16).astype(np.float32).reshape(-1, 8, 8, 1), digit.astype(np.int32)


@dataclass(frozen=True)
class Config:
    """The settings of a run."""

    lr: float = 1e-3
    seed: int = 0


def dense_net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
    x = batch["pixels"].reshape(len(batch["pixels"]), -1)
    return jax.nn.relu(x @ params["first"]) @ params["second"]


def convolution_net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
    """Two convolutions of stride two as strided slices and one matrix product, which loops of a CPU keep fast."""
    x = batch["pixels"]
    for name in ("first", "second"):
        padded = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        size = x.shape[1] // 2
        parts = [padded[:, i : i + 2 * size : 2, j : j + 2 * size : 2] for i in range(3) for j in range(3)]
        x = jax.nn.relu(jnp.concatenate(parts, axis=-1) @ params[name])
    return x.reshape(len(x), -1) @ params["third"]


NETS: dict[str, tuple[Callable[..., Any], dict[str, tuple[int, int]]]] = {
    "dense": (dense_net, {"first": (64, 32), "second": (32, 10)}),
    "convolution": (convolution_net, {"first": (9, 16), "second": (144, 32), "third": (128, 10)}),
}


def experiment(name: str, c: Config) -> ft.Experiment:
    apply, shapes = NETS[name]
    keys = jax.random.split(jax.random.key(c.seed), len(shapes))
    params = {n: jax.random.normal(k, s) / s[0] ** 0.5 for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    return ft.Experiment(
        model=ft.Model(apply, params, None),
        data={
            "train": {"pixels": IMAGES[:1400], "labels": LABELS[:1400]},
            "test": {"pixels": IMAGES[1400:], "labels": LABELS[1400:]},
        },
        adaptation=ft.full(),
        objective=ft.cross_entropy(),
        optimizer=optax.adam(c.lr),
        steps=STEPS,
        batch_size=BATCH,
        seed=c.seed,
    )


def one_by_one(name: str) -> tuple[dict[str, Callable[[], float]], dict[str, float]]:
    """The seconds of all runs one after the other, with `ft.fit` and with a bare loop, and of the compiling of each.

    Compiling is the first run's time beyond that of the second.
    """
    first = experiment(name, Config())
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
    step = ft.make_step(first.model.apply, ft.full(), ft.cross_entropy(), optimizer)
    update = jax.jit(step.update, donate_argnums=1)
    test = first.data["test"]
    rows = ft.data.arrays(first.data["train"])

    def bare(frozen: Any, state: Any, batches: Any) -> Any:
        for index in range(STEPS):
            state, _ = update(frozen, state, batches[index])
        return state

    def fitted(frozen: Any, state: Any, batches: Any) -> Any:
        return ft.fit(step, frozen, state, batches, steps=STEPS, progress=False).state

    def run(train: Callable[..., Any], predicted: Callable[..., Any], c: Config) -> float:
        batches = ft.data.batches(rows, batch_size=BATCH, seed=c.seed)
        frozen, state = step.init(jax.random.key(c.seed), experiment(name, c).model.params, batches[0])
        state = state._replace(opt_state=state.opt_state._replace(hyperparams={"learning_rate": jnp.float32(c.lr)}))
        began = time.perf_counter()
        state = train(frozen, state, batches)
        np.asarray(predicted(ft.full().bind(frozen.model, state.delta), test))
        return time.perf_counter() - began

    compiling: dict[str, float] = {}
    loops: dict[str, Callable[[], float]] = {}
    for way, train in {"fit": fitted, "bare": bare}.items():
        predicted = jax.jit(lambda params, batch: first.model.apply(params, batch))
        once = partial(run, train, predicted)
        jax.clear_caches()  # both ways step with one and the same function, and each is to compile it
        compiling[way] = once(Config()) - once(Config())
        loops[way] = partial(lambda once: sum(map(once, grid())), once)
    for loop in loops.values():
        loop()
    return loops, compiling


def grid() -> list[Config]:
    return [Config(rate, seed) for rate in RATES for seed in range(SEEDS)]


def runs(name: str, repeats: int) -> dict[str, float]:
    """The time of 32 runs by each way to stack them, over that of the ordinary loop, in turns; of compiling too."""
    ordinary, compiling = one_by_one(name)
    began = time.perf_counter()
    traced = trace(lambda c: experiment(name, c), Config(), ["lr", "seed"], {})
    tracing = time.perf_counter() - began
    values = [{"lr": c.lr, "seed": c.seed} for c in grid()]
    programs = {kind: compile_program(traced, lanes=len(values), stack=kind) for kind in ("vmap", "map")}
    count = programs["map"].threads
    parts = compile_program(traced, lanes=-(-len(values) // count), stack="vmap")
    programs["parts"] = parts._replace(threads=count)
    compiling |= {kind: tracing + program.compile_seconds for kind, program in programs.items()}
    for program in programs.values():
        program.run(values)
    seconds: dict[str, list[float]] = {way: [] for way in (*ordinary, *programs)}
    for _ in range(repeats):
        for way, loop in ordinary.items():
            seconds[way].append(loop())
        for kind, program in programs.items():
            seconds[kind].append(program.run(values)[1])
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    whole = {way: medians[way] + compiling[way] for way in medians}
    return {
        "threads": count,
        "fit_seconds": medians["fit"],
        "bare_of_fit": medians["bare"] / medians["fit"],
        **{f"{kind}_of_fit": medians[kind] / medians["fit"] for kind in programs},
        **{f"{kind}_of_bare": medians[kind] / medians["bare"] for kind in programs},
        **{f"{way}_compile_seconds": seconds for way, seconds in compiling.items()},
        **{f"{kind}_of_fit_compiled": whole[kind] / whole["fit"] for kind in programs},
    }


def minilm(selector: str, c: Config) -> ft.Experiment:
    return ft.Experiment(
        model=ft.load_model("minilm", task="classify", labels=["negative", "positive"], seed=c.seed, dropout=0.0),
        data=ft.data.sentiment("movies"),
        adaptation=ft.tune(selector),
        objective=ft.cross_entropy(),
        optimizer=ft.adamw(c.lr),
        steps=2 * 264,
        seed=c.seed,
        max_length=LENGTH,
    )


def probes() -> dict[str, float]:
    """Sixteen linear probes of MiniLM on films, two epochs each, over one pass of the encoder over the same rows."""
    first = minilm("head/**", Config())
    prepared = prepare(first)
    parts = [prepared.train[None], prepared.held_out["test"]]
    batches = [b for part in parts for b in ft.data.eval_batches(ft.data.arrays(part), batch_size=32)]
    ft.predict(first.model.apply, first.model.params, batches[:1])
    began = time.perf_counter()
    ft.predict(first.model.apply, first.model.params, batches)
    one_pass = time.perf_counter() - began
    began = time.perf_counter()
    traced = trace(lambda c: minilm("head/**", c), Config(), ["lr", "seed"], {})
    program = compile_program(traced, lanes=PROBES)
    _, seconds = program.run([{"lr": rate, "seed": seed} for rate in RATES for seed in range(PROBES // len(RATES))])
    whole = time.perf_counter() - began
    return {"pass_seconds": one_pass, "of_pass": whole / one_pass, "probes_of_pass": seconds / one_pass}


def prefix(steps: int | None) -> dict[str, float]:
    """An epoch of fine-tuning the top two layers from kept activations, over one of the whole model, in turns."""
    chosen = minilm("{encoder/layer_{4,5},head}/**", Config())
    prepared = prepare(chosen)
    began = time.perf_counter()
    start = start_of(chosen, prepared, limit=device_bytes() // 2)
    keeping = time.perf_counter() - began
    sides = {
        "kept": Side(start.train, chosen, start.prepared.train[None]),
        "whole": Side(chosen.model.apply, chosen, prepared.train[None]),
    }
    compiling = {name: side.epoch(1) - side.epoch(1) for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(EPOCHS):
        for name, side in sides.items():
            seconds[name].append(side.epoch(steps))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "whole_seconds": medians["whole"],
        "of_whole": medians["kept"] / medians["whole"],
        "first_of_whole": (keeping + compiling["kept"] + medians["kept"]) / (compiling["whole"] + medians["whole"]),
        "keeping_seconds": keeping,
        "compile_seconds": compiling["kept"],
        "whole_compile_seconds": compiling["whole"],
        "saved": start.saved,
    }


class Side:
    """A step under measurement and its rows."""

    def __init__(self, apply: Callable[..., Any], chosen: ft.Experiment, columns: Any):
        step = ft.make_step(apply, chosen.adaptation, chosen.objective, chosen.optimizer)
        self.columns = columns
        self.frozen, self.state = step.init(jax.random.key(0), chosen.model.params, self.batch(np.arange(32)))
        self.update = jax.jit(step.update, donate_argnums=1)

    def batch(self, rows: np.ndarray) -> Any:
        return jax.tree.map(lambda column: column[rows], self.columns)

    def epoch(self, steps: int | None) -> float:
        """The seconds of one epoch, the cutting of batches included; of its first steps only if a number is given."""
        count = len(self.columns["labels"])
        order = np.random.default_rng(0).permutation(count)[: count // 32 * 32].reshape(-1, 32)[:steps]
        began = time.perf_counter()
        for rows in order:
            self.state, metrics = self.update(self.frozen, self.state, self.batch(rows))
        jax.block_until_ready((self.state, metrics))
        return time.perf_counter() - began


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    case = sys.argv[1]
    least = int(sys.argv[2]) if len(sys.argv) > 2 else None
    if case in NETS:
        print(json.dumps(runs(case, least or REPEATS)))
    else:
        print(json.dumps(probes() if case == "probes" else prefix(least)))
