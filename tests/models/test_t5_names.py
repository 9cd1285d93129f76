"""The outputs of a T5 v1.1 that was made tied to its words: stored once, read twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxft.errors import InputError
from jaxft.models import load_model, save_model
from jaxft.trees import leaf_paths

GATED = Path(__file__).parent.parent / "golden" / "t5_gated"


def directory(where: Path, *, kernel: bool, tied: bool) -> Path:
    """The golden model, its outputs stored or not."""
    shutil.copytree(GATED, where)
    raw = json.loads((where / "config.json").read_text())
    raw |= {"tie_word_embeddings": tied, "scale_decoder_outputs": False}
    (where / "config.json").write_text(json.dumps(raw))
    arrays = load_file(GATED / "model.safetensors")
    if not kernel:
        del arrays["lm_head.weight"]
    save_file(arrays, where / "model.safetensors")
    return where


def test_outputs_that_are_not_in_the_file_are_the_word_embeddings(tmp_path: Path):
    model = load_model(directory(tmp_path / "source", kernel=False, tied=True), task="seq2seq")
    words = model.params["embeddings"]["word"]["embedding"]
    np.testing.assert_array_equal(model.params["lm_head"]["kernel"], words.T)
    ids = np.arange(2, 12).reshape(2, 5)
    outputs = jax.jit(model.apply)(model.params, {"input_ids": ids, "decoder_input_ids": ids})
    np.testing.assert_allclose(outputs.logits, outputs.hidden_states[-1] @ words.T, rtol=1e-5, atol=1e-5)

    # What has learned on its own stays apart from the embeddings.
    kernel = model.params["lm_head"]["kernel"] + 0.5
    save_model(model._replace(params=model.params | {"lm_head": {"kernel": kernel}}), tmp_path / "saved")
    again = load_model(tmp_path / "saved", task="seq2seq")
    np.testing.assert_array_equal(again.params["lm_head"]["kernel"], kernel)
    left = leaf_paths(again.params)
    assert all(
        (left[path] == leaf).all() for path, leaf in leaf_paths(model.params).items() if not path.startswith("lm_head")
    )


def test_a_kernel_in_the_file_comes_first(tmp_path: Path):
    model = load_model(directory(tmp_path / "source", kernel=True, tied=True), task="seq2seq")
    np.testing.assert_array_equal(
        model.params["lm_head"]["kernel"], load_file(GATED / "model.safetensors")["lm_head.weight"].T
    )


def test_outputs_that_are_not_tied_must_be_in_the_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"missing: lm_head\.weight"):
        load_model(directory(tmp_path / "source", kernel=False, tied=False), task="seq2seq")
