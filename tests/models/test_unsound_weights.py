"""Weights that could be read in two ways, or hold no numbers to start from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from safetensors.flax import load_file, save_file

import jaxft as ft
from tests.models.golden import GOLDEN


def changed(tmp_path: Path, name: str, arrays: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    """A copy of a golden model with some arrays and fields changed."""
    place = tmp_path / name
    shutil.copytree(GOLDEN / name, place)
    held = load_file(place / "model.safetensors")
    save_file(held | arrays, place / "model.safetensors", metadata={"format": "pt"})
    raw = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(raw | (config or {})))
    return place


def first(name: str, ending: str) -> tuple[str, Any]:
    held = load_file(GOLDEN / name / "model.safetensors")
    return next((key, array) for key, array in sorted(held.items()) if key.endswith(ending))


@pytest.mark.parametrize(("name", "task"), [("gpt2_lm", "lm"), ("llama_lm", "lm"), ("t5_relu", "seq2seq")])
def test_outputs_that_differ_from_the_embedding_they_are_tied_to(tmp_path, name, task):
    ending = {"gpt2_lm": "wte.weight", "llama_lm": "embed_tokens.weight", "t5_relu": "shared.weight"}[name]
    _, word = first(name, ending)
    with pytest.raises(ft.InputError, match=r"ties the outputs to .*another lm_head\.weight"):
        ft.load_model(changed(tmp_path / "other", name, {"lm_head.weight": word + 1}), task=task)
    ft.load_model(changed(tmp_path / "same", name, {"lm_head.weight": word}), task=task)


def test_one_array_under_two_names(tmp_path):
    held = load_file(GOLDEN / "bert_gelu" / "model.safetensors")
    name = next(key for key in sorted(held) if key.endswith("query.weight"))
    twin = name.removeprefix("bert.") if name.startswith("bert.") else f"bert.{name}"
    with pytest.raises(ft.InputError, match=f"(?=.*{name})(?=.*{twin}).*stand for one array and differ"):
        ft.load_model(changed(tmp_path / "other", "bert_gelu", {twin: held[name] + 1}), task="features")
    ft.load_model(changed(tmp_path / "same", "bert_gelu", {twin: held[name]}), task="features")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda array: array.astype(jnp.int8), "is int8"),
        (lambda array: jnp.full_like(array, jnp.nan), "holds NaN or infinity"),
        (lambda array: jnp.full_like(array, jnp.inf), "holds NaN or infinity"),
    ],
    ids=["int8", "NaN", "infinity"],
)
def test_numbers_that_are_no_weights(tmp_path, spoil, message):
    name, array = first("bert_gelu", "query.weight")
    with pytest.raises(ft.InputError, match=f"expected finite numbers .*query.* {message}"):
        ft.load_model(changed(tmp_path, "bert_gelu", {name: spoil(array)}), task="features")


def test_a_share_of_rotated_dimensions_is_refused_wherever_it_stands(tmp_path):
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}
    with pytest.raises(ft.InputError, match="partial_rotary_factor must be 1"):
        ft.load_model(changed(tmp_path, "llama_lm", {}, rope), task="lm")


def test_a_head_of_several_labels_is_not_one_of_a_single_label(tmp_path):
    several = {"problem_type": "multi_label_classification"}
    place = changed(tmp_path, "gpt2_classify", {}, several)
    with pytest.raises(ft.InputError, match="multi_label_classification"):
        ft.load_model(place, task="classify")
    assert ft.load_model(place, task="classify", num_labels=9).config.num_labels == 9


def test_eight_bit_floats_are_no_weights(tmp_path):
    place = changed(tmp_path, "bert_gelu", {})
    file = place / "model.safetensors"
    whole = file.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8:start]), whole[start:]
    name = next(key for key in sorted(header) if key.endswith("query.weight"))
    body = b""
    for key, held in header.items():
        if key == "__metadata__":
            continue
        begin, end = held["data_offsets"]
        piece = data[begin : begin + (end - begin) // 4] if key == name else data[begin:end]
        held |= {"data_offsets": [len(body), len(body) + len(piece)]} | ({"dtype": "F8_E4M3"} if key == name else {})
        body += piece
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + body)
    with pytest.raises(ft.InputError, match="float8"):
        ft.load_model(place, task="features")
