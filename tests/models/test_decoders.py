"""Decoders against what Hugging Face transformers computed, and against themselves."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxft.adapt import chain, lora, tune
from jaxft.errors import InputError
from jaxft.models import load_model, save_model
from jaxft.models.cache import empty_cache
from jaxft.trees import leaf_paths
from jaxft.types import Model, Outputs

GOLDEN = Path(__file__).parent.parent / "golden"
LM = ("gpt1_lm", "gpt2_lm", "gpt2_lm_scaled", "llama_lm", "llama_untied", "llama_rope3", "llama_linear", "mistral_lm")
LM += ("qwen2_lm", "qwen2_window", "qwen3_lm", "smollm")
CASES = {name: "lm" for name in LM} | {"gpt2_classify": "classify", "llama_classify": "classify"}
Arrays = dict[str, np.ndarray]


def golden(name: str, **options) -> tuple[Model, Arrays, Arrays]:
    model = load_model(GOLDEN / name, **{"task": CASES[name]} | options)
    with np.load(GOLDEN / name / "golden.npz") as stored:
        arrays = dict(stored)
    return model, {key: arrays.pop(key) for key in ("input_ids", "attention_mask")}, arrays


def run(model: Model, batch, params=None) -> Outputs:
    return jax.jit(model.apply)(model.params if params is None else params, batch)


def close(found, expected, message: str = "") -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=message)


@pytest.mark.parametrize("name", CASES)
def test_every_output_equals_hugging_face(name: str):
    model, batch, expected = golden(name)
    outputs = run(model, batch)
    found = {"logits": outputs.logits}
    found |= {f"hidden_{index}": state for index, state in enumerate(outputs.hidden_states)}
    found |= {f"attention_{index}": attention for index, attention in enumerate(outputs.attentions)}
    assert found.keys() == expected.keys() - {"prompt_ids", "prompt_mask", "generated"}
    real = batch["attention_mask"] == 1
    for key, array in found.items():
        if "attention" in key:
            close(array.swapaxes(1, 2)[real], expected[key].swapaxes(1, 2)[real], key)
        elif array.ndim == 3:
            close(array[real], expected[key][real], key)
        else:
            close(array, expected[key], key)
