"""Every golden directory: equal to its reference, blind to padding, the same through files, a base for low rank."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxft.adapt import chain, lora, merge, tune
from jaxft.models import load_model, save_model
from jaxft.trees import glob
from jaxft.types import Outputs
from tests.models.golden import (
    DECODERS,
    ENCODERS,
    GOLDEN,
    IMAGES,
    SEQ2SEQ,
    TASKS,
    Arrays,
    finite,
    golden,
    moves,
    raw_config,
    run,
    same,
)

every_case = pytest.mark.parametrize("name", TASKS)


def test_no_directory_is_left_out():
    assert sorted([*ENCODERS, *DECODERS, *SEQ2SEQ, *IMAGES]) == list(TASKS)
    assert len(TASKS) == 43


@functools.cache
def padded(name: str) -> Arrays:
    """The batch with padding around it, rows of padding only, and random tokens wherever none may be seen."""
    batch = golden(name).batch
    if name in IMAGES + DECODERS:  # test_decoders.py pads these on both sides
        return batch
    rng = np.random.default_rng(0)
    longer = {key: np.pad(array, ((0, 2), (0, 2))) for key, array in batch.items()}
    for part in ("", "decoder_") if name in SEQ2SEQ else ("",):
        hidden = longer[f"{part}attention_mask"] == 0
        if name in ENCODERS:  # what they compute at the padding of the golden batch is compared too
            hidden[: len(batch["input_ids"]), : batch["input_ids"].shape[1]] = False
        longer[f"{part}input_ids"][hidden] = rng.integers(0, 60, hidden.sum())
    return longer


def computed(name: str, outputs: Outputs) -> Arrays:
    """Outputs under the golden file's names, at the places of the golden batch."""
    batch, expected = golden(name).batch, golden(name).expected
    found = {f"hidden_{index}": state for index, state in enumerate(outputs.hidden_states)}
    found |= {f"attention_{index}": attention for index, attention in enumerate(outputs.attentions or ())}
    found |= {f"encoder_hidden_{index}": state for index, state in enumerate(outputs.encoder_hidden_states or ())}
    found |= {} if outputs.logits is None else {"logits": outputs.logits}
    assert found.keys() == {
        key for key in expected if key.startswith(("logits", "hidden", "attention", "encoder_hidden"))
    }
    if padded(name) is batch:
        return {key: np.asarray(array) for key, array in found.items()}
    return {key: np.asarray(array)[tuple(map(slice, expected[key].shape))] for key, array in found.items()}


def counted(name: str, key: str, array: np.ndarray) -> np.ndarray:
    """The values that are compared: all of an encoder and of an image, else those of tokens that are no padding."""
    if name in ENCODERS + IMAGES or array.ndim == 2:
        return array
    batch = golden(name).batch
    decoder = name in SEQ2SEQ and not key.startswith("encoder")
    mask = batch["decoder_attention_mask" if decoder else "attention_mask"] == 1
    return np.moveaxis(array, 1, 2)[mask] if "attention" in key else array[mask]


def pooled(name: str, last: np.ndarray) -> np.ndarray:
    """What the head of an image model reads, from the normalised last states."""
    patches = last[:, 2 if name.startswith("deit") else 1 :].mean(axis=1)
    return np.concatenate([last[:, 0], patches], 1) if name.startswith("dinov2") else last[:, 0]


def close(name: str, found, expected: np.ndarray, what: str = "", tolerance: float = 1e-5) -> None:
    """Within the tolerance; of the largest value, where it is above one, of a residual stream that reaches 70."""
    if name in SEQ2SEQ:
        bound = tolerance * max(1.0, float(np.abs(expected).max()))
    elif name in IMAGES:
        bound = tolerance * np.maximum(1, np.abs(expected).max(axis=-1, keepdims=True))
    else:
        bound = tolerance * (1 + np.abs(expected))
    assert found.shape == expected.shape, what
    error = np.abs(np.asarray(found) - expected)
    assert (error <= bound).all(), (what, error.max())


@every_case
def test_every_output_equals_the_reference_whatever_the_padding(name: str):
    expected = golden(name).expected
    outputs = run(golden(name).model, padded(name))
    found = computed(name, outputs)
    for key, array in found.items():
        close(name, counted(name, key, array), counted(name, key, expected[key]), key)
    if "features" in expected:
        close(name, outputs.features, pooled(name, expected["features"]), "features")
    assert outputs.stats is None
    assert outputs.logits is None or outputs.logits.dtype == jnp.float32
    assert finite(outputs), "rows of padding only stay finite"


@every_case
def test_saved_and_loaded_is_the_same_under_the_names_of_the_reference(tmp_path: Path, name: str):
    model = golden(name).model
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task=TASKS[name])
    assert same(model, again)
    assert again.config == model.config
    saved, source = (load_file(place / "model.safetensors") for place in (tmp_path / "saved", GOLDEN / name))
    unread = {key for key in source if name in IMAGES and key.startswith("pooler.")}
    assert saved.keys() == source.keys() - unread
    counters = {key for key in source if key.endswith("num_batches_tracked")}
    assert all((saved[key] == source[key]).all() for key in saved.keys() - counters)
    raw = json.loads((tmp_path / "saved" / "config.json").read_text())
    for field in ("architectures", "model_type"):
        assert raw[field] == raw_config(name)[field]


class Adapted(NamedTuple):
    """What is adapted of a model, and how close adapted and merged weights are once they have moved."""

    low_rank: str
    trained: str | None
    move: float
    tolerance: float
    differs: float


WORD = "embeddings/word/embedding"
OF_ENCODER = Adapted(f"{{encoder/**/kernel,{WORD}}}", "head/**", 0.05, 1e-4, 1e-3)
OF_DECODER = Adapted(f"{{decoder/**/kernel,{WORD}}}", "decoder/**/scale", 0.02, 1e-3, 1e-2)
OF_BOTH = Adapted("{{encoder,decoder}/**/kernel,**/word/embedding}", "decoder/**/scale", 0.02, 1e-4, 1e-3)
PATCHES = "{**/{query,down}/kernel,embeddings/{patch/kernel,position/embedding}}"
ADAPTED = {
    "bert_pair": OF_ENCODER,
    "roberta_classify": OF_ENCODER,
    "xlm_roberta_tag": OF_ENCODER,
    "distilbert_classify": OF_ENCODER,
    "electra_classify": OF_ENCODER,
    "gpt1_lm": OF_DECODER,
    "qwen3_lm": OF_DECODER,
    "t5_gated": OF_BOTH,
    "encoder_decoder_sizes": OF_BOTH,
    "vit_classify": Adapted(PATCHES, "head/**", 0.05, 1e-4, 1e-3),
    "deit_teacher": Adapted(PATCHES, "head/**", 0.05, 1e-4, 1e-3),
    "dinov2_swiglu": Adapted(PATCHES, "head/**", 0.05, 1e-4, 1e-3),
    "dinov2_resized": Adapted(PATCHES, None, 0.05, 1e-4, 1e-3),
    "resnet_basic": Adapted("**/{convolution_0,shortcut}/kernel", "head/**", 0.05, 1e-4, 1e-3),
}


QUICK = ("bert_pair", "qwen3_lm", "t5_gated", "vit_classify", "resnet_basic")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ADAPTED]
)
def test_low_rank_weights_start_as_the_base_and_learn(name: str):
    case, model, batch = ADAPTED[name], golden(name).model, padded(name)
    method = lora(glob(case.low_rank), rank=2, alpha=4)
    if case.trained:
        method = chain(method, tune(glob(case.trained)))
    frozen, delta = method.init(jax.random.key(0), model.params)

    def answer(outputs: Outputs) -> jax.Array:
        return outputs.features if name in IMAGES else outputs.logits

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def step(delta):
        outputs = model.apply(method.bind(frozen, delta), batch)
        loss = sum(jnp.square(some).mean() for some in (outputs.features, outputs.logits) if some is not None)
        return loss, answer(outputs)

    base = np.asarray(answer(run(model, batch)))
    (_, found), gradient = step(delta)
    close(name, found, base)
    assert finite(gradient)
    assert any(moves(gradient))
    moved = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(case.move), delta)
    (_, found), gradient = step(moved)
    merged = np.asarray(answer(run(model, batch, jax.jit(functools.partial(merge, method))(frozen, moved))))
    close(name, found, merged, tolerance=case.tolerance)
    assert not np.allclose(merged, base, atol=case.differs)
    assert finite(gradient)
    assert all(moves(gradient)), "every array matters"
