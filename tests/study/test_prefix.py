"""The part of a forward pass that never changes: found, kept, and equal to what it stands for."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.models.load import build_apply
from jaxft.study.prefix import find_prefix, known_leaves
from jaxft.types import Outputs

ROWS, BATCH, LENGTH = 12, 4, 16


def mlp(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    h1 = jax.nn.gelu(batch["x"] @ params["layer_0"]["kernel"] + params["layer_0"]["bias"])
    h2 = jnp.tanh(h1 @ params["layer_1"]["kernel"])
    return Outputs(logits=h2 @ params["head"]["kernel"], features=h2, hidden_states=(h1, h2))


@lru_cache
def mlp_params() -> Any:
    keys = jax.random.split(jax.random.key(0), 4)
    return {
        "layer_0": {"kernel": jax.random.normal(keys[0], (10, 8)), "bias": jax.random.normal(keys[3], (8,))},
        "layer_1": {"kernel": jax.random.normal(keys[1], (8, 6))},
        "head": {"kernel": jax.random.normal(keys[2], (6, 3))},
    }


@lru_cache
def mlp_rows() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(ROWS, 10)).astype(np.float32), "labels": random.integers(0, 3, ROWS)}


@lru_cache
def minilm(dropout: bool) -> ft.Model:
    model = ft.load_model("minilm", task="classify", num_labels=2)
    if dropout:
        return model
    rates = {name: 0.0 for name in vars(model.config) if name.endswith("dropout")}
    config = replace(model.config, **rates)
    return model._replace(apply=build_apply(config, remat=False), config=config)


@lru_cache
def texts() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    lengths = random.integers(5, LENGTH + 1, ROWS)
    ids = random.integers(1000, 20000, (ROWS, LENGTH)).astype(np.int32)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int32)
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": random.integers(0, 2, ROWS)}


def inputs_of(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in rows.items() if name != "labels"}


def prefix_of(apply: Any, params: Any, adaptation: ft.Adaptation, rows: Any, train: bool = True) -> Any:
    frozen, delta = adaptation.init(jax.random.key(3), params)
    key = jax.random.key(4)
    known = known_leaves(adaptation, frozen, delta, key)
    batch = {name: value[:BATCH] for name, value in inputs_of(rows).items()}
    return find_prefix(apply, adaptation.bind(frozen, delta, key=key), known, batch, train=train)


def run(apply: Any, params: Any, adaptation: ft.Adaptation, batches: list[Any]) -> tuple[Any, list[float]]:
    step = ft.make_step(apply, adaptation, ft.cross_entropy(), optax.adamw(1e-2))
    frozen, state = step.init(jax.random.key(3), params, batches[0])
    update = jax.jit(step.update)
    losses = []
    for batch in batches:
        state, metrics = update(frozen, state, batch)
        losses.append(float(metrics["loss"]))
    return state.delta, losses


def batches_of(rows: Any, columns: Any = None) -> list[Any]:
    order = np.random.default_rng(2)
    found = []
    for _ in range(5):
        chosen = order.permutation(ROWS)[:BATCH]
        batch = {name: jnp.asarray(value[chosen]) for name, value in rows.items()}
        found.append(batch if columns is None else batch | {"prefix": tuple(jnp.asarray(c[chosen]) for c in columns)})
    return found


def assert_close(left: Any, right: Any, tolerance: float = 1e-5) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), left, right)


TOP = ft.tune(["encoder/layer_{4,5}/**", "head/**"])
SUBJECTS = {
    "mlp probe": (mlp, mlp_params, ft.tune("head/**"), mlp_rows),
    "mlp lora": (mlp, mlp_params, ft.chain(ft.lora("layer_1/kernel", rank=2), ft.tune("head/**")), mlp_rows),
    "probe": (None, None, ft.tune("head/**"), texts),
    "top layers": (None, None, TOP, texts),
    "upper lora": (
        None,
        None,
        ft.chain(ft.lora("encoder/layer_{4,5}/attention/{query,value}/kernel"), ft.tune("head/**")),
        texts,
    ),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_training_is_that_of_the_whole_forward_pass(name: str) -> None:
    apply, params, adaptation, make_rows = SUBJECTS[name]
    apply, params = (minilm(False).apply, minilm(False).params) if apply is None else (apply, params())
    rows = make_rows()
    prefix = prefix_of(apply, params, adaptation, rows)
    assert prefix is not None
    columns = prefix.columns(rows, BATCH)
    assert sum(column[0].nbytes for column in columns) == prefix.bytes_per_row
    print(name, prefix.saved, prefix.bytes_per_row, [(c.shape, c.dtype) for c in columns])
    whole, whole_losses = run(apply, params, adaptation, batches_of(rows))
    resumed, losses = run(prefix.apply, params, adaptation, batches_of(rows, columns))
    assert_close(losses, whole_losses)
    assert_close(resumed, whole, 2e-5)
