"""Adapters that jaxft writes for PEFT to read.

python tests/train/peft_cases.py        # writes them to tests/golden/peft/ours_*/
python tests/train/peft_cases.py DIR    # writes them to DIR/*/, each with the outputs.npz of ours that
                                        # `make_peft.py check DIR` compares with PEFT's
"""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np

import jaxft as ft
from jaxft.trees import map_with_path

GOLDEN = Path(__file__).parents[1] / "golden"
BASE, ROOM = GOLDEN / "bert_gelu", GOLDEN / "peft"
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask", "pixels")
ATTENTION = "**/attention/{query,value}/kernel"
KEYS = "**/attention/{key,value}/kernel"
DOWN = "**/down/kernel"
LAYERS = {"encoder/layer_0/**": 2, "**": 4}
BERT = {"task": "classify", "num_labels": 3}
LM = {"task": "lm"}


class Case(NamedTuple):
    """A golden directory, how its model is loaded, and the adaptation."""

    base: str
    load: dict[str, object]
    build: Callable[[], ft.Adaptation]


CASES = {
    "head": Case(
        "bert_gelu",
        BERT | {"pooling": "cls"},
        lambda: ft.chain(ft.lora(ATTENTION, rank=LAYERS, alpha=10.0, dropout=0.1), ft.tune("head/**")),
    ),
    "mean": Case(
        "bert_gelu",
        BERT | {"pooling": "mean"},
        lambda: ft.chain(ft.lora(ATTENTION, rank=LAYERS), ft.tune("head/**")),
    ),
    "stabilized": Case(
        "bert_gelu",
        BERT | {"pooling": "cls"},
        lambda: ft.lora("**/{attention/output,feed_forward/down}/kernel", rank=3, alpha=2.0, rank_stabilized=True),
    ),
    "whole": Case(
        "bert_gelu",
        BERT | {"pooling": "cls"},
        lambda: ft.chain(
            ft.lora(
                ft.glob("encoder/layer_{0,1}/feed_forward/up/kernel", "embeddings/word/embedding"), rank=2, alpha=3.0
            ),
            ft.tune(ft.glob("encoder/layer_0/**/bias", "**/norm/scale", "pooler/**", "embeddings/position/**")),
            ft.tune("encoder/layer_2/**/{kernel,bias}"),
        ),
    ),
    "conv1d": Case("gpt2_lm", LM, lambda: ft.lora(ATTENTION, rank=2, alpha=3.0)),
    "convolution": Case(
        "resnet_basic",
        {"task": "classify"},
        lambda: ft.chain(ft.lora("encoder/stage_1/**/kernel", rank=2, alpha=0.5), ft.tune("head/**")),
    ),
    "embedding": Case("llama_untied", LM, lambda: ft.lora("embeddings/word/embedding", rank=3, alpha=2.0)),
    "dora": Case(
        "bert_gelu",
        BERT | {"pooling": "cls"},
        lambda: ft.chain(ft.dora(ATTENTION, rank=2, alpha=3.0), ft.tune("head/**")),
    ),
    "dora_conv1d": Case(
        "gpt2_classify", {"task": "classify"}, lambda: ft.dora("**/attention/key/kernel", rank=3, alpha=2.0)
    ),
    "ia3": Case(
        "bert_gelu",
        BERT | {"pooling": "cls"},
        lambda: ft.chain(ft.ia3(KEYS, inputs=DOWN), ft.tune("head/**")),
    ),
    "ia3_conv1d": Case("gpt2_lm", LM, lambda: ft.ia3(KEYS, inputs=DOWN)),
    "prompt": Case(
        "bert_gelu",
        BERT | {"pooling": "cls"},
        lambda: ft.chain(ft.prompt(length=3), ft.tune("head/**")),
    ),
    "prompt_t5": Case("t5_gated", {"task": "seq2seq"}, lambda: ft.prompt(length=4)),
    "prefix": Case("llama_lm", LM, lambda: ft.prefix(length=2)),
    "prefix_reparametrised": Case("gpt2_lm", LM, lambda: ft.prefix(length=2, reparametrise=5)),
    "pissa": Case("llama_lm", LM, lambda: ft.pissa(ATTENTION, rank=3)),
    "olora": Case("llama_lm", LM, lambda: ft.olora("**/up/kernel", rank=2)),
    "lora_fa": Case("llama_lm", LM, lambda: ft.lora_fa(ATTENTION, rank=2, alpha=1.0)),
    "vera": Case("llama_lm", LM, lambda: ft.vera(ATTENTION, rank=3)),
    "loha": Case("llama_lm", LM, lambda: ft.loha(ATTENTION, rank=2, alpha=1.0)),
    "lokr": Case("llama_lm", LM, lambda: ft.lokr(DOWN, rank=1, alpha=0.5)),
    "adalora": Case("llama_lm", LM, lambda: ft.adalora(ATTENTION, rank=3, alpha=3.0)),
}
"""By name. Those from "pissa" on come back as plain LoRA of another rank."""
OTHERWISE = ("pissa", "olora", "lora_fa", "vera", "loha", "lokr", "adalora", "prefix_reparametrised")


@functools.cache
def base(pooling: str) -> ft.Model:
    return ft.load_model(BASE, task="classify", pooling=pooling, num_labels=3)


@functools.cache
def model_of(name: str) -> ft.Model:
    return ft.load_model(GOLDEN / CASES[name].base, **CASES[name].load)


def inputs(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name / "golden.npz") as stored:
        return {key: stored[key] for key in INPUTS if key in stored}


def seen(batch: dict[str, np.ndarray]) -> np.ndarray:
    """Where the logits of a batch are those of real tokens."""
    mask = batch.get("attention_mask") if "decoder_input_ids" not in batch else batch.get("decoder_attention_mask")
    return np.bool_(True) if mask is None else mask == 1


def trained(name: str, params: ft.types.Params) -> tuple[ft.Adaptation, ft.types.Frozen, ft.types.Delta]:
    """An adaptation with every array that learns moved, by numpy so that no version of jax changes them."""
    adaptation = CASES[name].build()
    frozen, delta = adaptation.init(jax.random.key(0), params)
    rng = np.random.default_rng(list(CASES).index(name))
    moved = map_with_path(lambda path, leaf: moved_leaf(path, leaf, rng), delta)
    return adaptation, frozen, moved


def moved_leaf(path: str, leaf: jax.Array, rng: np.random.Generator) -> jax.Array:
    noise = rng.normal(scale=0.3, size=leaf.shape).astype(np.float32)
    return jnp.asarray(noise if path.endswith(("/a", "/b")) else noise + np.asarray(leaf))


def write(name: str, directory: Path, *, outputs: bool) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    model = model_of(name)
    adaptation, frozen, delta = trained(name, model.params)
    ft.save_adapter(directory, adaptation, frozen, delta, config=model.config, base=CASES[name].base)
    if outputs:
        batch = inputs(CASES[name].base)
        found = model.apply(adaptation.bind(frozen, delta), batch)
        whole = "logits" if CASES[name].load.get("pooling") != "mean" else "hidden"
        value = found.logits if whole == "logits" else found.hidden_states[-1]
        mask = seen(batch) if value.ndim == 3 else np.bool_(True)
        np.savez_compressed(directory / "outputs.npz", **{whole: value, "seen": mask})


if __name__ == "__main__":
    for case in CASES:
        place = Path(sys.argv[1]) / case if sys.argv[1:] else ROOM / f"ours_{case}"
        write(case, place, outputs=bool(sys.argv[1:]))
