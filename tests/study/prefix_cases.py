"""Models, rows and training runs with which a kept prefix is compared with the whole forward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxft as ft
from jaxft.study.prefix import Prefix, find_prefix, known_leaves

ROWS, BATCH, LENGTH = 12, 4, 16
Rows = dict[str, np.ndarray]


def mlp(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    h1 = jax.nn.gelu(batch["x"] @ params["layer_0"]["kernel"] + params["layer_0"]["bias"])
    h2 = jnp.tanh(h1 @ params["layer_1"]["kernel"])
    return ft.Outputs(logits=h2 @ params["head"]["kernel"], features=h2, hidden_states=(h1, h2))


@lru_cache
def mlp_params() -> Any:
    keys = jax.random.split(jax.random.key(0), 4)
    return {
        "layer_0": {"kernel": jax.random.normal(keys[0], (10, 8)) / 3, "bias": jax.random.normal(keys[3], (8,))},
        "layer_1": {"kernel": jax.random.normal(keys[1], (8, 6)) / 3},
        "head": {"kernel": jax.random.normal(keys[2], (6, 3)) / 3},
    }


@lru_cache
def mlp_rows() -> Rows:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(ROWS, 10)).astype(np.float32), "labels": random.integers(0, 3, ROWS)}


@lru_cache
def minilm(dropout: float | None = 0.0) -> ft.Model:
    return ft.load_model("minilm", task="classify", num_labels=2, dropout=dropout)


@lru_cache
def texts() -> Rows:
    random = np.random.default_rng(1)
    ids = random.integers(1000, 20000, (ROWS, LENGTH)).astype(np.int32)
    mask = (np.arange(LENGTH) < random.integers(5, LENGTH + 1, ROWS)[:, None]).astype(np.int32)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": random.integers(0, 2, ROWS)}


def inputs_of(rows: Any) -> Any:
    return {name: value for name, value in rows.items() if name != "labels"}


def prefix_of(
    apply: Callable[..., Any], params: Any, adaptation: ft.Adaptation, rows: Rows, **options
) -> Prefix | None:
    frozen, delta = adaptation.init(jax.random.key(3), params)
    key = jax.random.key(4)
    known = known_leaves(adaptation, frozen, delta, key)
    batch = {name: value[:BATCH] for name, value in inputs_of(rows).items()}
    return find_prefix(apply, adaptation.bind(frozen, delta, key=key), known, batch, **options)


def train(
    apply: Callable[..., Any], params: Any, adaptation: ft.Adaptation, batches: list[Any], objective: Any = None
) -> tuple[Any, Any]:
    """The learned arrays and the metrics, one set a step."""
    step = ft.make_step(apply, adaptation, objective or ft.cross_entropy(), optax.sgd(0.05, momentum=0.9))
    frozen, state = step.init(jax.random.key(3), params, batches[0])
    update = jax.jit(step.update)
    found = []
    for batch in batches:
        state, metrics = update(frozen, state, batch)
        found.append(metrics)
    return state.delta, found


def batches_of(rows: Any, columns: Any = None, count: int = 5) -> list[Any]:
    order = np.random.default_rng(2)
    found = []
    for _ in range(count):
        chosen = order.permutation(ROWS)[:BATCH]
        batch = {name: jnp.asarray(value[chosen]) for name, value in rows.items()}
        found.append(batch if columns is None else batch | {"prefix": tuple(jnp.asarray(c[chosen]) for c in columns)})
    return found


def assert_close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), left, right)
