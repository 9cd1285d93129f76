"""The summary table: roles, counts and bytes, before anything is computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxft as ft

SHAPES: dict[str, Any] = {
    "encoder": {"query": {"kernel": (64, 32), "bias": (32,)}, "norm": {"scale": (32,)}},
    "head": {"kernel": (32, 2), "bias": (2,)},
}
PARAMS = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, jnp.float32), SHAPES, is_leaf=lambda s: isinstance(s, tuple))


def test_rows_of_lora_with_a_head() -> None:
    adaptation = ft.chain(ft.lora("**/query/kernel", rank=4), ft.tune("head/**"))
    table = ft.summary(adaptation, PARAMS, optax.adam(1e-3))
    rows = {row.path: row for row in table.rows}
    lora = rows["encoder/query/kernel"]
    assert (lora.role, lora.shape, lora.parameters, lora.trained) == ("low-rank 4", (64, 32), 2048, 4 * 96)
    assert (lora.bytes, lora.optimizer_bytes) == (4 * (2048 + 4 * 96), 2 * 4 * 4 * 96)
    assert rows["encoder/norm/scale"][2:] == ("frozen", 32, 0, 128, 0)
    assert rows["head/bias"][2:] == ("trained", 2, 2, 8, 16)
    assert table.trained == 4 * 96 + 66
    assert table.parameters == 2048 + 64 + 66
    assert table.optimizer_bytes == 8 * table.trained


def test_it_prints_as_a_table() -> None:
    text = str(ft.summary(ft.tune("head/**"), PARAMS))
    lines = text.splitlines()
    assert lines[0].split() == ["path", "shape", "role", "parameters", "trained", "bytes", "optimizer", "bytes"]
    assert "encoder/query/kernel  64×32  frozen" in text
    assert lines[-1].split() == ["total", "3.03%", "learn", "2,178", "66", "8,712", "0"]


def test_indices_of_a_chain_and_of_a_list_are_told_apart() -> None:
    params = [jnp.ones((4, 4)), jnp.ones(3)]
    rows = ft.summary(ft.chain(ft.chain(ft.tune("1"))), params, optax.adam(0.1)).rows
    assert [(row.role, row.trained, row.optimizer_bytes) for row in rows] == [("frozen", 0, 0), ("trained", 3, 24)]


def test_a_parameter_called_delta() -> None:
    params = {"delta": {"w": jnp.ones(2)}, "w": jnp.ones(3)}
    rows = ft.summary(ft.full(), params, optax.adam(0.1)).rows
    assert [(row.path, row.optimizer_bytes) for row in rows] == [("delta/w", 16), ("w", 24)]


@pytest.mark.parametrize(
    "adaptation",
    [
        ft.full(),
        ft.chain(ft.lora("**/query/kernel", rank=4), ft.tune("head/**")),
        ft.chain(ft.dora("**/query/kernel", rank=4), ft.chain(ft.tune("head/**"))),
        ft.chain(ft.vera("**/query/kernel", rank=4), ft.tune("head/**")),
        ft.chain(ft.quantise("**/query/kernel"), ft.lora_fa("**/query/kernel", rank=4), ft.tune("head/**")),
    ],
    ids=["full", "lora", "dora", "vera", "lora_fa"],
)
def test_what_is_held_counts_once(adaptation: ft.Adaptation) -> None:
    all_learn = ft.summary(adaptation, PARAMS)
    for narrowed in (
        ft.narrow(adaptation, "head/**"),
        ft.chain(ft.narrow(adaptation, "head/**")),
        ft.narrow(ft.narrow(adaptation, ["head/**", "**/query/**"]), "head/**"),
    ):
        table = ft.summary(narrowed, PARAMS)
        assert [(row.path, row.bytes) for row in table.rows] == [(row.path, row.bytes) for row in all_learn.rows]
        assert table.trained == 66
