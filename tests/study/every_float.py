"""A study whose settings reach every place that a traced number may enter, and its runs."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxft as ft

pixels, digit = load_digits(return_X_y=True)
PIXELS, DIGIT = (pixels / 16).astype(np.float32), digit.astype(np.int32)
CALLS: list[object] = []
TEACHER = 1.0


@dataclass(frozen=True)
class Config:
    method: str = "full"
    rank: int = 4
    lr: float = 1e-2
    decay: float = 0.01
    weight: float = 1.0
    alpha: float = 8.0
    dropout: float = 0.0
    scale: float = 0.125
    whole: float = 1
    rows: int = 0
    seed: int = 0


def apply(params, batch, *, train=False, key=None):
    return jax.nn.relu(batch["pixels"] @ params["first"]) @ params["second"] + params["bias"]


def build(c: Config) -> ft.Experiment:
    CALLS.append(c)
    params = {
        "first": jax.random.normal(jax.random.key(7), (64, 16)) / 8,
        "second": jax.random.normal(jax.random.key(c.seed), (16, 10)) * c.scale,
        "bias": jnp.zeros(10),
    }
    lora = ft.lora("{first,second}", rank=c.rank, alpha=c.alpha, dropout=c.dropout)
    adaptation = {"full": ft.full(), "lora": ft.chain(lora, ft.tune("bias")), "head": ft.tune("{second,bias}")}[
        c.method
    ]
    return ft.Experiment(
        model=ft.Model(apply, params, None),
        data={
            "train": {"pixels": PIXELS[:150], "labels": DIGIT[:150]},
            "test": {"pixels": PIXELS[1500:], "labels": DIGIT[1500:]},
            "validation": {"pixels": PIXELS[1400:1500], "labels": DIGIT[1400:1500]},
        },
        adaptation=adaptation,
        objective=ft.combine(task=(ft.cross_entropy(), c.weight)),
        optimizer=optax.adamw(ft.warmup_linear(c.lr * c.whole, 24), weight_decay=c.decay),
        steps=24,
        batch_size=16,
        rows=c.rows or None,
        evaluate_every=10,
        seed=c.seed,
    )


def value_of_a_float(c: Config) -> ft.Experiment:
    assert float(c.decay) > 0
    return build(c)


def no_experiment(c: Config) -> object:
    return c


def too_many_steps(c: Config) -> ft.Experiment:
    return build(c)._replace(steps=c.lr)


def views(c: Config) -> ft.Experiment:
    one = build(c)
    train = {"source": one.data["train"], "extra": {"pixels": PIXELS[200:300], "labels": DIGIT[200:300]}}
    both = ft.combine(source=ft.cross_entropy("source"), extra=ft.cross_entropy("extra"))
    return one._replace(data={**one.data, "train": train}, objective=both)


def normalised(params, batch, *, train=False, key=None):
    x = batch["pixels"] @ params["first"]
    if train:
        x = x * jax.random.bernoulli(key, 0.8, x.shape)
    mean = jnp.mean(x, axis=0) if train else params["norm"]["mean"]
    hidden = jax.nn.relu((x - mean) @ params["third"])
    moved = 0.5 * params["norm"]["mean"] + 0.5 * mean
    return ft.Outputs(logits=hidden @ params["second"], stats={"norm": {"mean": moved}} if train else None)


def with_statistics(c: Config) -> ft.Experiment:
    one = build(c)
    params = {**one.model.params, "norm": {"mean": jnp.full(16, 9.0)}, "third": jnp.eye(16)}
    return one._replace(model=ft.Model(normalised, params, None), adaptation=ft.tune("second"))


def taught(c: Config) -> ft.Experiment:
    one = build(c)
    teacher = jnp.full((64, 10), TEACHER)

    def init(key, context):
        return {"teacher": teacher}, (), ()

    def loss(frozen, weights, memory, context):
        target = context.batch["pixels"] @ frozen["teacher"]
        return jnp.mean((context.forward().logits - target) ** 2), ((), {})

    return one._replace(objective=ft.Objective(init, loss))


def numbers_by_seed(c: Config) -> ft.Experiment:
    np.random.default_rng(c.seed)
    return build(c)


def rows_by_seed(c: Config) -> ft.Experiment:
    list(range(c.seed))
    return build(c)
