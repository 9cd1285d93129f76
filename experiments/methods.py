"""What comparisons of methods on MiniLM share: the methods, a training run, a process for each, the costs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxft as ft
from experiments import report

COSTS = ("trained parameters", "step", "peak memory", "training")


class Method(NamedTuple):
    """One row of a table: its name, what learns, the peak learning rate, and the others it was chosen among."""

    name: str
    adaptation: ft.Adaptation
    rate: float
    others: tuple[float, ...] = ()

    @property
    def candidates(self) -> tuple[float, ...]:
        """All learning rates, the smallest first."""
        return tuple(sorted((self.rate, *self.others)))


def methods(**rates: Sequence[float]) -> dict[str, Method]:
    """The methods named, each with its learning rate and the others it was chosen among."""
    learns = {
        "head": ("head only", ft.tune("head/**")),
        "top": ("top two layers", ft.tune(["encoder/layer_{4,5}/**", "head/**"])),
        "lora": (
            "LoRA, rank 8",
            ft.chain(ft.lora("**/attention/{query,value}/kernel", rank=8, alpha=16), ft.tune("head/**")),
        ),
        "full": ("full fine-tuning", ft.full()),
    }
    return {key: Method(*learns[key], rate, tuple(others)) for key, (rate, *others) in rates.items()}


class Trained(NamedTuple):
    """What a training run ends with.

    Attributes:
        params: the adapted model's.
        lengths: that rows are padded to.
        costs: ``costs()``: trained parameters, milliseconds of a step, peak memory and minutes. It uses the state up,
            and with it the params: call it last.
    """

    params: Any
    lengths: tuple[int, ...]
    costs: Callable[[], dict[str, float]]


def train(
    model: ft.Model, method: Method, objective: ft.Objective, rows: ft.data.Dataset, config: Any, seed: int
) -> Trained:
    """Trains with AdamW, linear warm-up over 10 % of the steps and linear decay.

    Args:
        model: the pretrained one.
        method: what learns, and its learning rate.
        objective: what is minimised.
        rows: to learn from.
        config: of the experiment: epochs, batch_size and max_length.
        seed: of the adapter, the order of the rows and the dropout.
    """
    lengths = tuple(config.max_length * share // 4 for share in (2, 3, 4))
    batches = ft.data.batches(rows, batch_size=config.batch_size, seed=seed, lengths=lengths)
    steps = config.epochs * batches.steps_per_epoch
    step = ft.make_step(model.apply, method.adaptation, objective, ft.adamw(ft.warmup_linear(method.rate, steps)))
    frozen, state = step.init(jax.random.key(seed), model.params, batches[0])
    start = time.perf_counter()
    state = ft.fit(step, frozen, state, batches, steps=steps).state
    minutes = (time.perf_counter() - start) / 60

    def costs() -> dict[str, float]:
        full_length = ft.data.batches(rows, batch_size=config.batch_size, seed=0)
        return {
            "trained": report.trained_parameters(state.delta),
            "step_ms": report.step_milliseconds(step, frozen, state, full_length),
            "memory_mib": report.peak_mebibytes(),
            "minutes": minutes,
        }

    return Trained(method.adaptation.bind(frozen.model, state.delta), lengths, costs)


def cost_cells(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The cells under :data:`COSTS` of the runs of one method: medians over seeds."""
    step, memory, minutes = (
        float(np.median([row[name] for row in rows])) for name in ("step_ms", "memory_mib", "minutes")
    )
    return (f"{rows[0]['trained']:,}", f"{step:.0f} ms", f"{memory:,.0f} MiB", f"{minutes:.1f} min")


def runs(
    script: str, config: Any, known: Mapping[str, Method], run: Callable[[Any, str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every method, seed and learning rate, each in a process of its own.

    A configuration without a name is one of those: its figures are printed as a line of JSON, and there are no rows.

    Args:
        script: of the experiment.
        config: methods, seeds and name; with ``validate`` every candidate rate is run, under ``rate``.
        known: the methods.
        run: ``run(config, method, seed)``: the figures of one.
    """
    if unknown := set(config.methods) - set(known):
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among {sorted(known)}")
    if not config.name:
        print(json.dumps(run(config, config.methods[0], config.seeds[0])))
        return []
    rows = []
    for key in config.methods:
        for seed in config.seeds:
            for rate in known[key].candidates if getattr(config, "validate", False) else (known[key].rate,):
                print(f"{known[key].name}, seed {seed}, learning rate {rate:g}", file=sys.stderr)
                one = {"methods": (key,), "seeds": (seed,), "rate": rate, "name": ""}
                rows.append(report.in_own_process(script, vars(config) | one))
    return rows
