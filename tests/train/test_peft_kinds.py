"""Adapters of kinds other than plain LoRA on linear layers: what the format makes of them, and what it refuses."""

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
from jaxft.trees import leaf_paths
from tests.train.peft_cases import GOLDEN, ROOM, base, model_of
from tests.train.test_peft import CONFIG, WEIGHTS, assert_same_bits, refused

C_ATTN = "base_model.model.transformer.h.0.attn.c_attn"


def moved(adaptation: ft.Adaptation, params: ft.types.Params) -> tuple[ft.Adaptation, ft.types.Frozen, ft.types.Delta]:
    """The adaptation with every array that learns moved."""
    frozen, delta = adaptation.init(jax.random.key(0), params)
    rng = np.random.default_rng(0)
    return adaptation, frozen, jax.tree.map(lambda leaf: leaf + 0.3 * jnp.asarray(rng.normal(size=leaf.shape)), delta)


def written(adaptation: ft.Adaptation, model: ft.Model, directory: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The fields and arrays of what is saved; loading it again gives the same model."""
    adapted = moved(adaptation, model.params)
    ft.save_adapter(directory, *adapted, config=model.config)
    again = ft.load_adapter(directory, model.params, config=model.config)
    assert_same_bits(ft.merge(*adapted), ft.merge(*again))
    return json.loads((directory / CONFIG).read_text()), load_file(directory / WEIGHTS)


def test_parts_of_a_fused_module_have_ranks_of_their_own(tmp_path):
    model = ft.load_model(GOLDEN / "gpt2_lm", task="lm")
    ranks = {"**/query/kernel": 2, "**/value/kernel": 1}
    adaptation = ft.lora("**/attention/{query,value}/kernel", rank=ranks, alpha={"**/query/kernel": 4.0, "**": 2.0})
    fields, arrays = written(adaptation, model, tmp_path / "adapter")
    assert (fields["r"], fields["lora_alpha"], fields["fan_in_fan_out"]) == (3, 6, True)
    b = arrays[f"{C_ATTN}.lora_B.weight"]
    assert b.shape == (72, 3)
    np.testing.assert_array_equal(b[:24, 2:], 0)
    np.testing.assert_array_equal(b[24:48], 0)
    np.testing.assert_array_equal(b[48:, :2], 0)


def test_what_a_fused_module_cannot_hold_is_refused(tmp_path):
    model = ft.load_model(GOLDEN / "gpt2_lm", task="lm")
    key, value = "decoder/layer_0/attention/key/kernel", "decoder/layer_0/attention/value/kernel"
    scales = ft.lora(ft.glob(key, value), rank=2, alpha={key: 1.0, value: 2.0})
    assert "have the scales 0.5, 1" in refused(scales, model.params, tmp_path, config=model.config)
    torn = ft.chain(ft.lora(key, rank=1), ft.tune(value))
    assert f"{value!r} is one of 3 parts" in refused(torn, model.params, tmp_path, config=model.config)
    part = ft.ia3(value, inputs=key)
    assert "read the inputs of" in refused(part, model.params, tmp_path, config=model.config)


def test_pieces_that_share_a_are_written_with_one(tmp_path):
    model = ft.load_model(GOLDEN / "gpt2_classify", task="classify")
    loaded = ft.load_adapter(ROOM / "theirs_conv1d", model.params, config=model.config)
    ft.save_adapter(tmp_path / "again", *loaded, config=model.config)
    first, second = (load_file(place / WEIGHTS) for place in (ROOM / "theirs_conv1d", tmp_path / "again"))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.parametrize("name", ["llama_lm", "gpt2_lm", "t5_relu"])
def test_a_table_that_is_read_twice_is_refused(name, tmp_path):
    model = ft.load_model(GOLDEN / name, task="seq2seq" if name.startswith("t5") else "lm")
    adaptation = ft.lora("embeddings/word/embedding", rank=1)
    assert "tied embeddings" in refused(adaptation, model.params, tmp_path, config=model.config)


def test_an_adapter_of_a_table_that_is_read_twice_is_refused(tmp_path):
    directory = tmp_path / "adapter"
    directory.mkdir()
    fields = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["wte"], "ensure_weight_tying": True}
    (directory / CONFIG).write_text(json.dumps(fields))  # PEFT 0.21 ties no head of GPT-2 for all that
    model = ft.load_model(GOLDEN / "gpt2_lm", task="lm")
    name = "base_model.model.transformer.wte.lora_embedding_{}"
    arrays = {name.format("A"): np.ones((2, 73), np.float32), name.format("B"): np.ones((24, 2), np.float32)}
    save_file(arrays, directory / WEIGHTS)
    with pytest.raises(ft.InputError, match="tied embeddings"):
        ft.load_adapter(directory, model.params, config=model.config)


@pytest.mark.parametrize(
    ("adaptation", "message"),
    [
        (
            ft.chain(ft.lora("**/query/kernel", rank=1), ft.ia3("**/key/kernel")),
            "key/kernel' is ia3 and .*query/kernel' lora",
        ),
        (ft.chain(ft.ia3("**/query/kernel"), ft.lora("**/query/kernel", rank=1)), "query/kernel' is a scaled low-rank"),
        (ft.chain(ft.prompt(length=2), ft.lora("**/query/kernel", rank=1)), "an adapter is of one kind"),
        (ft.bottleneck("**/down/kernel", size=2), "feed_forward/down/bottleneck/.*the PEFT format cannot hold it"),
        (ft.prefix("encoder/layer_1/**/key/kernel", length=2), "none to layer 0"),
        (ft.ia3("embeddings/word/embedding"), "is a table"),
    ],
)
def test_what_no_adapter_holds_is_refused_by_name(adaptation, message, tmp_path):
    model = base("cls")
    with pytest.raises(ft.InputError, match=message):
        ft.save_adapter(tmp_path / "adapter", *moved(adaptation, model.params), config=model.config)
    assert list(tmp_path.iterdir()) == []


def test_the_base_may_be_quantised(tmp_path):
    model = base("cls")
    quantise = ft.quantise("**/attention/*/kernel")
    adapted = moved(ft.chain(quantise, ft.lora("**/query/kernel", rank=2)), model.params)
    ft.save_adapter(tmp_path / "adapter", *adapted, config=model.config)
    rounded, _ = quantise.init(jax.random.key(0), model.params)
    loaded = ft.load_adapter(tmp_path / "adapter", rounded, config=model.config)
    assert_same_bits(ft.merge(*adapted), ft.merge(*loaded))
    plain = ft.load_adapter(tmp_path / "adapter", model.params, config=model.config)
    assert leaf_paths(plain[2]).keys() == leaf_paths(loaded[2]).keys()


def test_a_table_stored_beside_its_adapter_stands_in_for_the_bases(tmp_path):
    model = model_of("embedding")
    directory = tmp_path / "adapter"
    shutil.copytree(ROOM / "theirs_embedding", directory)
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    table = np.asarray(model.params["embeddings"]["word"]["embedding"]) + 1
    save_file(load_file(directory / WEIGHTS) | {name: table}, directory / WEIGHTS)
    adaptation, frozen, delta = ft.load_adapter(directory, model.params, config=model.config)
    bound = adaptation.bind(frozen, delta)["embeddings"]["word"]["embedding"]
    np.testing.assert_array_equal(bound.base, table)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("ia3", {"feedforward_modules": ["key", "output.dense"]}, r"key has ia3_l \[24, 1\].* expect \[1, 24\]"),
        ("ia3", {"feedforward_modules": "("}, "feedforward_modules as names"),
        ("prompt", {"num_virtual_tokens": 5}, r"prompt_embeddings is \[4, 24\].*num_virtual_tokens 5"),
        ("prompt", {"num_transformer_submodules": 2}, "num_transformer_submodules 2"),
        ("prefix_gpt2", {"peft_type": "PROMPT_TUNING", "encoder_hidden_size": None}, r"\[places, 24\] in these params"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(name, fields, message, tmp_path):
    directory = tmp_path / "adapter"
    shutil.copytree(ROOM / f"theirs_{name}", directory)
    stored = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**stored, **fields, "prefix_projection": False}))
    model = ft.load_model(GOLDEN / "gpt2_lm", task="lm") if name == "prefix_gpt2" else base("cls")
    with pytest.raises(ft.InputError, match=message):
        ft.load_adapter(directory, model.params, config=model.config)
