"""Which rank does a small net need?

A script as a person writes it, which the tests run: points in a plane of sixteen dimensions, a class for each corner.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxft as ft


@dataclass(frozen=True)
class Config:
    method: str = "full"  # what learns
    rank: int = 2
    """Of LoRA's updates."""
    lr: float = 1e-2
    seed: int = 0


class Slow:
    """Takes its time over every run, so that a test can end the process between two."""

    def log(self, figures):
        if "final/accuracy" in figures:
            time.sleep(float(os.environ.get("SECONDS_A_RUN", "0")))


def model(params, batch, *, train=False, key=None):
    hidden = jnp.tanh(batch["x"] @ params["hidden"]["kernel"])
    return ft.Outputs(logits=hidden @ params["head"]["kernel"], features=hidden)


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return {"x": x, "labels": (x[:, 0] > 0) + 2 * (x[:, 1] > 0)}


def build(c: Config) -> ft.Experiment:
    params = {
        "hidden": {"kernel": jax.random.normal(jax.random.key(7), (16, 8)) / 4},
        "head": {"kernel": jax.random.normal(jax.random.key(c.seed), (8, 4)) / 3},
    }
    lora = ft.chain(ft.lora("hidden/kernel", rank=c.rank, alpha=4.0), ft.tune("head/**"))
    return ft.Experiment(
        model=ft.Model(model, params, None),
        data={"train": rows(64, 0), "validation": rows(40, 1), "test": rows(100, 2)},
        adaptation=ft.full() if c.method == "full" else lora,
        objective=ft.cross_entropy(),
        optimizer=optax.adam(c.lr),
        steps=12,
        seed=c.seed,
        batch_size=16,
        evaluate_every=6,
    )


WHOLE = ft.grid(method="full", seed=range(3)) + ft.grid(method="lora", rank=ft.masked(1, 4), seed=range(3))

if __name__ == "__main__":
    ft.main(Config, build, grid=WHOLE, writers=[Slow()])
