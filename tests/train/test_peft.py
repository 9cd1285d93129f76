"""Adapters against PEFT itself: what it wrote is read, and what we wrote it read, with equal outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxft as ft
from jaxft.trees import fingerprint, leaf_paths
from tests.train.peft_cases import ATTENTION, BASE, CASES, ROOM, base, trained

THEIRS = ("patterns", "rank_stabilized", "biases", "encoder")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def difference(directory: Path, model: ft.Model, params: ft.types.Params) -> float:
    """The largest one between our output with these params and PEFT's on the stored inputs."""
    stored, golden = np.load(BASE / "golden.npz"), np.load(directory / "golden.npz")
    inputs = {name: stored[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    outputs = model.apply(params, inputs)
    if "logits" in golden:
        return float(np.abs(outputs.logits - golden["logits"]).max())
    return float(np.abs(outputs.hidden_states[-1] - golden["hidden"]).max())


def assert_same_bits(ours, theirs):
    first, second = leaf_paths(ours), leaf_paths(theirs)
    assert first.keys() == second.keys()
    for path in first:
        assert first[path].dtype == second[path].dtype
        np.testing.assert_array_equal(first[path], second[path], err_msg=path)


def task_model(name: str) -> ft.Model:
    return ft.load_model(BASE, task="features") if name == "encoder" else base("cls")


@pytest.mark.parametrize("name", THEIRS)
def test_an_adapter_of_peft_gives_its_outputs(name):
    model = task_model(name)
    adaptation, frozen, delta = ft.load_adapter(ROOM / f"theirs_{name}", model.params, config=model.config)
    assert difference(ROOM / f"theirs_{name}", model, adaptation.bind(frozen, delta)) < 1e-5
    assert difference(ROOM / f"theirs_{name}", model, ft.merge(adaptation, frozen, delta)) < 1e-5
    assert difference(ROOM / f"theirs_{name}", model, model.params) > 0.1


@pytest.mark.parametrize("name", THEIRS)
def test_an_adapter_of_peft_survives_being_written_again(name, tmp_path):
    model = task_model(name)
    loaded = ft.load_adapter(ROOM / f"theirs_{name}", model.params)
    ft.save_adapter(tmp_path / "again", *loaded)
    again = ft.load_adapter(tmp_path / "again", model.params)
    assert_same_bits(ft.merge(*loaded), ft.merge(*again))
    assert_same_bits(loaded[2], again[2])


@pytest.mark.parametrize("name", CASES)
def test_our_adapter_gives_the_outputs_that_peft_read_from_it(name, tmp_path):
    model = base(CASES[name][0])
    adaptation, frozen, delta = trained(name, model.params)
    ft.save_adapter(tmp_path / name, adaptation, frozen, delta, config=model.config, base="bert_gelu")
    for file in (CONFIG, WEIGHTS):
        assert (tmp_path / name / file).read_bytes() == (ROOM / f"ours_{name}" / file).read_bytes()
    assert difference(ROOM / f"ours_{name}", model, adaptation.bind(frozen, delta)) < 1e-5


@pytest.mark.parametrize("given", [True, False], ids=["config", "inferred"])
@pytest.mark.parametrize("name", CASES)
def test_a_round_trip_keeps_every_bit(name, given, tmp_path):
    model = base(CASES[name][0])
    config = model.config if given else None
    adaptation, frozen, delta = trained(name, model.params)
    ft.save_adapter(tmp_path / name, adaptation, frozen, delta, config=config)
    loaded, loaded_frozen, loaded_delta = ft.load_adapter(tmp_path / name, model.params, config=config)
    assert_same_bits(ft.merge(adaptation, frozen, delta), ft.merge(loaded, loaded_frozen, loaded_delta))
    assert fingerprint(sorted(map(fingerprint, jax.tree.leaves(delta)))) == fingerprint(
        sorted(map(fingerprint, jax.tree.leaves(loaded_delta)))
    )
