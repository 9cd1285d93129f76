"""One Linen model, one NNX model and one plain function, on which every adaptation obeys the same laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

import jaxft as ft

DIM, HIDDEN, CLASSES, ROWS = 24, 40, 3, 64


class Subject(NamedTuple):
    """A model, its parameters, a batch, and the names by which its parts are selected."""

    apply: Callable[..., Any]
    params: Any
    batch: dict[str, Any]
    weights: str
    head: str
    encoder: str
    first: str


def batch() -> dict[str, Any]:
    x = jax.random.normal(jax.random.key(7), (ROWS, DIM))
    return {"x": x, "labels": jnp.argmax(x[:, :CLASSES], axis=1)}


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(nn.Dense(HIDDEN, name="up")(x))
        x = nn.LayerNorm(name="norm")(jnp.tanh(nn.Dense(HIDDEN, name="down")(x)))
        return nn.Dense(CLASSES, name="head")(x)


def linen() -> Subject:
    net, data = LinenNet(), batch()
    params = net.init(jax.random.key(0), data["x"])["params"]

    def apply(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
        return ft.Outputs(logits=net.apply({"params": params}, batch["x"]))

    return Subject(apply, params, data, "{up,down}/kernel", "head/**", "{up,down}/**", "up/kernel")


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.up = nnx.Linear(DIM, HIDDEN, rngs=rngs)
        self.down = nnx.Linear(HIDDEN, HIDDEN, rngs=rngs)
        self.norm = nnx.LayerNorm(HIDDEN, rngs=rngs)
        self.head = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
        x = jnp.tanh(self.up(batch["x"]))
        return ft.Outputs(logits=self.head(self.norm(jnp.tanh(self.down(x)))))


def nnx_net() -> Subject:
    apply, params = ft.from_nnx(NnxNet(nnx.Rngs(0)))
    return Subject(apply, params, batch(), "{up,down}/kernel", "head/**", "{up,down}/**", "up/kernel")


def plain() -> Subject:
    keys = jax.random.split(jax.random.key(0), 3)

    def layer(key: Any, inputs: int, outputs: int) -> dict[str, Any]:
        return {"w": jax.random.normal(key, (inputs, outputs)) / inputs**0.5, "b": jnp.zeros(outputs)}

    params = {
        "layers": [layer(keys[0], DIM, HIDDEN), layer(keys[1], HIDDEN, HIDDEN)],
        "norm": {"scale": jnp.ones(HIDDEN), "bias": jnp.zeros(HIDDEN)},
        "head": layer(keys[2], HIDDEN, CLASSES),
    }

    def apply(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
        x = batch["x"]
        for part in params["layers"]:
            x = jnp.tanh(x @ part["w"] + part["b"])
        x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
        x = x * params["norm"]["scale"] + params["norm"]["bias"]
        return x @ params["head"]["w"] + params["head"]["b"]

    return Subject(apply, params, batch(), "layers/*/w", "head/**", "layers/**", "layers/0/w")


SUBJECTS = {"linen": linen, "nnx": nnx_net, "plain": plain}
