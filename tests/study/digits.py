"""A small study that processes of their own can run: ``digits.py DIRECTORY RUNS STEPS STALE``."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxft as ft

pixels, digit = load_digits(return_X_y=True)
PIXELS, DIGIT = (pixels / 16).astype(np.float32), digit.astype(np.int32)
PARTS = {"train": slice(0, 400), "validation": slice(400, 600), "test": slice(600, 800)}


@dataclass(frozen=True)
class Config:
    method: str = "full"
    rank: int = 2
    lr: float = 1e-2
    seed: int = 0
    steps: int = 60


def apply(params, batch, *, train=False, key=None):
    hidden = jax.nn.relu(batch["pixels"] @ params["first"])
    return hidden @ params["second"]


def data(*parts):
    return {name: {"pixels": PIXELS[PARTS[name]], "labels": DIGIT[PARTS[name]]} for name in parts}


def build(config: Config, parts=tuple(PARTS)) -> ft.Experiment:
    first, second = jax.random.split(jax.random.key(7))
    params = {"first": jax.random.normal(first, (64, 16)) / 8, "second": jax.random.normal(second, (16, 10)) / 4}
    lora = ft.chain(ft.lora("first", rank=config.rank), ft.tune("second"))
    return ft.Experiment(
        model=ft.Model(apply, params, None),
        data=data(*parts),
        adaptation=ft.full() if config.method == "full" else lora,
        objective=ft.cross_entropy(),
        optimizer=optax.sgd(config.lr),
        steps=config.steps,
        seed=config.seed,
    )


def without_validation(config: Config) -> ft.Experiment:
    return build(config, ("train", "test"))


def grid(runs: int) -> ft.study.Grid:
    return ft.grid(lr=[float(rate) for rate in jnp.logspace(-2, 0, runs // 4)], seed=range(4))


if __name__ == "__main__":
    directory, runs, steps, stale = sys.argv[1:]
    ft.run_study(build, Config(steps=int(steps)), grid(int(runs)), directory=directory, stale=float(stale))
