"""Adapters that jaxft writes for PEFT to read; run it to write them to tests/golden/peft/ours_*."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np

import jaxft as ft
from jaxft.trees import map_with_path

GOLDEN = Path(__file__).parents[1] / "golden"
BASE, ROOM = GOLDEN / "bert_gelu", GOLDEN / "peft"
ATTENTION = "**/attention/{query,value}/kernel"
LAYERS = {"encoder/layer_0/**": 2, "**": 4}
CASES = {
    "head": ("cls", lambda: ft.chain(ft.lora(ATTENTION, rank=LAYERS, alpha=10.0, dropout=0.1), ft.tune("head/**"))),
    "stabilized": (
        "cls",
        lambda: ft.lora("**/{attention/output,feed_forward/down}/kernel", rank=3, alpha=2.0, rank_stabilized=True),
    ),
    "whole": (
        "cls",
        lambda: ft.chain(
            ft.lora(
                ft.glob("encoder/layer_{0,1}/feed_forward/up/kernel", "embeddings/word/embedding"), rank=2, alpha=3.0
            ),
            ft.tune(ft.glob("encoder/layer_0/**/bias", "**/norm/scale", "pooler/**", "embeddings/position/**")),
            ft.tune("encoder/layer_2/**/{kernel,bias}"),
        ),
    ),
    "mean": ("mean", lambda: ft.chain(ft.lora(ATTENTION, rank=LAYERS), ft.tune("head/**"))),
}


def base(pooling: str) -> ft.Model:
    return ft.load_model(BASE, task="classify", pooling=pooling, num_labels=3)


def trained(name: str, params: ft.types.Params) -> tuple[ft.Adaptation, ft.types.Frozen, ft.types.Delta]:
    """An adaptation with every array that learns moved, by numpy so that no version of jax changes them."""
    adaptation = CASES[name][1]()
    frozen, delta = adaptation.init(jax.random.key(0), params)
    rng = np.random.default_rng(sorted(CASES).index(name))
    moved = map_with_path(lambda path, leaf: moved_leaf(path, leaf, rng), delta)
    return adaptation, frozen, moved


def moved_leaf(path: str, leaf: jax.Array, rng: np.random.Generator) -> jax.Array:
    noise = rng.normal(scale=0.3, size=leaf.shape).astype(np.float32)
    return jnp.asarray(noise if path.endswith(("/a", "/b")) else noise + np.asarray(leaf))


if __name__ == "__main__":
    for case, (pooling, _) in CASES.items():
        model = base(pooling)
        shutil.rmtree(ROOM / f"ours_{case}", ignore_errors=True)
        ft.save_adapter(ROOM / f"ours_{case}", *trained(case, model.params), config=model.config, base="bert_gelu")
