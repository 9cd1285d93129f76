"""Adapters of which only a part learns for now, and of params with numbers for keys: the file leaves nothing out."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxft as ft
from jaxft.trees import leaf_paths
from tests.train.test_peft import CONFIG, WEIGHTS, assert_same_bits

NAME = "base_model.model.{}.lora_{}.weight"


def drawn(seed: int) -> ft.types.Params:
    """Params of a small model of no family."""
    rng = np.random.default_rng(seed)
    shapes = {"query": (6, 5), "value": (6, 4), "head": (4, 2)}
    return {name: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32)} for name, shape in shapes.items()}


def moved(tree: ft.types.PyTree) -> ft.types.PyTree:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype), tree)


def saved(
    adaptation: ft.Adaptation, frozen: ft.types.Frozen, delta: ft.types.Delta, directory: Path
) -> tuple[dict[str, object], set[str]]:
    """The fields, and the names of the arrays, of what is written."""
    ft.save_adapter(directory, adaptation, frozen, delta)
    return json.loads((directory / CONFIG).read_text()), set(load_file(directory / WEIGHTS))


def assert_close(ours: ft.types.Params, theirs: ft.types.Params) -> None:
    first, second = leaf_paths(ours), leaf_paths(theirs)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_allclose(leaf, second[path], rtol=1e-5, atol=1e-5, err_msg=path)


LORA = ft.lora("{query,value}/kernel", rank=2)
NARROWED = {
    "alone": (ft.narrow(LORA, "query/**"), set()),
    "twice": (ft.narrow(ft.narrow(LORA, "{query,value}/kernel/b"), "query/**"), set()),
    "a chain": (ft.narrow(ft.chain(LORA, ft.tune("head/**")), "query/**"), {"base_model.model.head.weight"}),
    "a link": (ft.chain(ft.narrow(LORA, "query/**"), ft.tune("head/**")), {"base_model.model.head.weight"}),
    "a link of a narrowed chain": (
        ft.narrow(ft.chain(ft.narrow(LORA, "**/b"), ft.tune("head/**")), "query/**"),
        {"base_model.model.head.weight"},
    ),
}


@pytest.mark.parametrize("name", NARROWED)
def test_what_is_held_is_written_with_what_learns(name, tmp_path):
    adaptation, whole = NARROWED[name]
    frozen, delta = adaptation.init(jax.random.key(0), drawn(0))
    # As if what is held now had learned before: the factors at their start would not be missed.
    adapted = adaptation, frozen._replace(extra=moved(frozen.extra)), moved(delta)
    _, arrays = saved(*adapted, tmp_path / "adapter")
    assert arrays == {NAME.format(module, part) for module in ("query", "value") for part in "AB"} | whole
    base = drawn(0) | ({"head": drawn(1)["head"]} if whole else {})  # the file's head must take the place of another
    assert_same_bits(ft.merge(*adapted), ft.merge(*ft.load_adapter(tmp_path / "adapter", base)))


@pytest.mark.parametrize("method", [ft.pissa, ft.olora])
@pytest.mark.parametrize("link", [False, True])
def test_a_narrowed_start_out_of_the_weight_comes_back_on_the_original_base(method, link, tmp_path):
    params, adaptation = drawn(0), ft.narrow(method("{query,value}/kernel", rank=2), "query/**")
    adaptation = ft.chain(ft.tune("head/**"), adaptation) if link else adaptation
    frozen, delta = adaptation.init(jax.random.key(0), params)
    adapted = adaptation, frozen, moved(delta)
    fields, _ = saved(*adapted, tmp_path / "adapter")
    assert fields["r"] == 4
    assert_close(ft.merge(*adapted), ft.merge(*ft.load_adapter(tmp_path / "adapter", params)))


@pytest.mark.parametrize("method", [ft.pissa, ft.olora])
@pytest.mark.parametrize("link", [False, True])
def test_a_start_out_of_the_weight_of_params_with_numbers_for_keys(method, link, tmp_path):
    query, value, head = drawn(0).values()
    params, adaptation = {"0": query, "1": value, "2": head}, method("{0,1}/kernel", rank=2)
    adaptation = ft.chain(ft.tune("2/**"), adaptation) if link else adaptation
    frozen, delta = adaptation.init(jax.random.key(0), params)
    adapted = adaptation, frozen, moved(delta)
    fields, _ = saved(*adapted, tmp_path / "adapter")
    assert fields["r"] == 4
    assert_close(ft.merge(*adapted), ft.merge(*ft.load_adapter(tmp_path / "adapter", params)))


def test_the_index_of_a_link_is_not_taken_for_a_key(tmp_path):
    rng = np.random.default_rng(0)
    params = {key: jnp.asarray(rng.normal(size=(4, 3)), jnp.float32) for key in ("0", "1")}
    adaptation = ft.chain(ft.tune("1"), ft.lora("0", rank=2))
    frozen, delta = adaptation.init(jax.random.key(0), params)
    adapted = adaptation, frozen, moved(delta)
    _, arrays = saved(*adapted, tmp_path / "adapter")
    assert arrays == {NAME.format("0", "A"), NAME.format("0", "B"), "base_model.model.1"}
    assert_same_bits(ft.merge(*adapted), ft.merge(*ft.load_adapter(tmp_path / "adapter", params)))


@pytest.mark.parametrize("adaptation", [ft.lora("*/kernel", rank=2), ft.chain(ft.lora("*/kernel", rank=2))])
def test_params_that_are_a_tuple_keep_their_indices(adaptation, tmp_path):
    params = tuple(drawn(0).values())
    frozen, delta = adaptation.init(jax.random.key(0), params)
    adapted = adaptation, frozen, moved(delta)
    _, arrays = saved(*adapted, tmp_path / "adapter")
    assert arrays == {NAME.format(index, part) for index in range(3) for part in "AB"}
    assert_same_bits(ft.merge(*adapted), ft.merge(*ft.load_adapter(tmp_path / "adapter", params)))
