"""The cost of a step is read from its compiled program, for devices that need not exist."""

from __future__ import annotations

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxft as ft

DIM, HIDDEN, CLASSES, ROWS, RANK = 64, 128, 4, 32, 2


def needs_libtpu(test: Any) -> Any:
    reason = "libtpu is not installed: run make test-topology"
    return pytest.mark.topology(pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason=reason)(test))


def net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
    return jnp.tanh(batch["x"] @ params["up"]["kernel"]) @ params["head"]["kernel"]


def shape(*sizes: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


PARAMS = {"up": {"kernel": shape(DIM, HIDDEN)}, "head": {"kernel": shape(HIDDEN, CLASSES)}}
BATCH = {"x": shape(ROWS, DIM), "labels": shape(ROWS, dtype=jnp.int32)}


def cost(adaptation: ft.Adaptation, batch: Any = BATCH, **options: Any) -> Any:
    step = ft.make_step(net, adaptation, ft.cross_entropy(), optax.adam(1e-3))
    return ft.cost(step, PARAMS, batch, **options)


LORA = ft.chain(ft.lora("up/kernel", rank=RANK), ft.tune("head/**"))


def test_bytes_and_parameters_of_a_step() -> None:
    found = cost(LORA)
    learned = RANK * (DIM + HIDDEN) + HIDDEN * CLASSES
    assert found.trained == learned
    assert found.frozen_bytes == 4 * DIM * HIDDEN
    assert found.learned_bytes == 4 * learned
    assert found.optimizer_bytes == 2 * 4 * learned + 4  # two moments, and how many updates there were
    batch = 4 * ROWS * DIM + 4 * ROWS
    scalars = found.argument_bytes - (found.frozen_bytes + found.learned_bytes + found.optimizer_bytes + batch)
    assert 0 <= scalars <= 64
    assert found.total_bytes >= found.argument_bytes + found.temporary_bytes


def test_operations_are_those_of_the_compiled_step() -> None:
    full, lora = cost(ft.full()), cost(LORA)
    theory = 3 * 2 * ROWS * (DIM * HIDDEN + HIDDEN * CLASSES) - 2 * ROWS * DIM * HIDDEN  # no gradient of the inputs
    assert theory <= full.flops <= 1.5 * theory
    assert lora.flops < full.flops


def test_nothing_is_computed_and_arrays_will_do() -> None:
    arrays = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), (PARAMS, BATCH))
    step = ft.make_step(net, LORA, ft.cross_entropy(), optax.adam(1e-3))
    assert ft.cost(step, *arrays) == cost(LORA)


@needs_libtpu
@pytest.mark.parametrize(("name", "devices", "gib"), [("v5e:2x2", 4, 16), ("v6e:2x2", 4, 32), ("v4:2x2x1", 8, 16)])
def test_a_slice_has_devices_and_memory(name: str, devices: int, gib: int) -> None:
    found = ft.tpu_topology(name)
    assert (len(found.devices), found.bytes) == (devices, gib * 2**30)


@needs_libtpu
def test_steps_are_compiled_for_tpus_that_are_not_there() -> None:
    devices = ft.tpu_topology("v5e:2x2").devices
    one, replicated = cost(LORA), cost(LORA, placement=ft.data_parallel(devices=devices))
    split = cost(LORA, placement=ft.fully_sharded(devices=devices))
    assert replicated.frozen_bytes == one.frozen_bytes
    assert split.frozen_bytes == one.frozen_bytes // 4
    assert split.trained == replicated.trained == one.trained
    assert replicated.argument_bytes < one.argument_bytes + 8192  # TPUs pad small arrays to tiles
    assert replicated.flops < one.flops


@needs_libtpu
def test_rows_that_cannot_be_split_are_refused() -> None:
    placement = ft.data_parallel(devices=ft.tpu_topology("v5e:2x2").devices)
    batch = {"x": shape(ROWS + 1, DIM), "labels": shape(ROWS + 1, dtype=jnp.int32)}
    with pytest.raises(ft.InputError, match="33 rows of 'labels' cannot be split over 4 devices"):
        cost(LORA, batch, placement=placement)


@needs_libtpu
@pytest.mark.parametrize("name", ["v5e:3x3", "v9:2x2", "tpu:2x2"])
def test_a_slice_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(ft.InputError, match=f"no slice '{name}'.*examples: v5e:2x2"):
        ft.tpu_topology(name)


@pytest.mark.parametrize("name", ["v5e", "v5e-16", "4x4", ""])
def test_a_name_that_is_no_slice_is_refused(name: str) -> None:
    with pytest.raises(ft.InputError, match="a version and a shape such as v5e:4x4"):
        ft.tpu_topology(name)


def test_without_libtpu_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ft.InputError, match="libtpu must be installed"):
        ft.tpu_topology("v5e:2x2")
