"""The golden directories: small models, their inputs, and what the reference implementations computed from them."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from jaxft.models import load_model
from jaxft.models.family import saved_task
from jaxft.trees import leaf_paths
from jaxft.types import Model, Outputs

GOLDEN = Path(__file__).parent.parent / "golden"
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask", "pixels")
Arrays = dict[str, np.ndarray]


def raw_config(name: str) -> dict:
    return json.loads((GOLDEN / name / "config.json").read_text())


TASKS = {
    path.parent.name: saved_task(raw_config(path.parent.name)) or "features"
    for path in sorted(GOLDEN.glob("*/golden.npz"))
    if (path.parent / "config.json").is_file()
}


def named(*beginnings: str) -> list[str]:
    return [name for name in TASKS if name.startswith(beginnings)]


ENCODERS = named("bert", "roberta", "xlm_roberta", "distilbert", "electra")
DECODERS = named("gpt", "llama", "mistral", "qwen", "smollm")
SEQ2SEQ = named("t5", "encoder_decoder")
IMAGES = named("vit", "deit", "dinov2", "resnet")


class Golden(NamedTuple):
    model: Model
    batch: Arrays
    expected: Arrays


@functools.cache
def golden(name: str, **options) -> Golden:
    """The model of a directory, its batch and what it should compute; the same model, so its programs, each time."""
    with np.load(GOLDEN / name / "golden.npz") as stored:
        arrays = dict(stored)
    batch = {key: arrays.pop(key) for key in INPUTS if key in arrays}
    return Golden(load_model(GOLDEN / name, **{"task": TASKS[name]} | options), batch, arrays)


def run(model: Model, batch: Arrays, params=None) -> Outputs:
    """One compiled program for each model and shape of batch."""
    return jax.jit(model.apply)(model.params if params is None else params, batch)


def edited(name: str, directory: Path, *, change: Callable[[Arrays], Arrays] | None = None, **fields) -> Path:
    """A golden directory with other arrays or fields."""
    shutil.copytree(GOLDEN / name, directory)
    (directory / "config.json").write_text(json.dumps(raw_config(name) | fields))
    if change is not None:
        save_file(change(load_file(GOLDEN / name / "model.safetensors")), directory / "model.safetensors")
    return directory


def same(one: Model, other: Model) -> bool:
    """Whether two models have the same arrays at the same paths."""
    leaves, others = leaf_paths(one.params), leaf_paths(other.params)
    return leaves.keys() == others.keys() and all(np.array_equal(leaves[path], others[path]) for path in leaves)


def finite(tree) -> bool:
    return all(np.isfinite(leaf).all() for leaf in map(np.asarray, jax.tree.leaves(tree)))


def moves(tree) -> list[bool]:
    """Of each array, whether any of its numbers is other than zero."""
    return [bool(np.asarray(leaf).any()) for leaf in jax.tree.leaves(tree)]
