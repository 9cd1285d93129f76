"""Prompts and prefixes, between the vectors at our slots and PEFT's one table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.models.config import ModelConfig, TextConfig
from jaxft.train.peft_files import CONFIG
from jaxft.train.peft_sites import ADVICE, Written
from jaxft.types import Array

KEY = "prompt_embeddings"
PROMPT, WORDS = "embeddings/prompt", "embeddings/word/embedding"
_PREFIX = re.compile(r"(encoder|decoder)/layer_(?P<layer>\d+)/attention/prefix/(?P<part>key|value)")
_KERNEL = re.compile(r"(encoder|decoder)/layer_(?P<layer>\d+)/attention/key/kernel")


def write_prompts(added: Mapping[str, Any], config: ModelConfig | None) -> Written:
    """The table of a prompt, or of the prefixes of all layers, the key before the value of each."""
    if not isinstance(config, TextConfig):
        raise InputError(f"the adaptation added {next(iter(added))!r}, which expects the config of a model of texts")
    start: dict[str, Any] = {"prompt_tuning_init": "RANDOM"}
    if set(added) == {PROMPT}:
        array = np.asarray(added[PROMPT])
        sizes = {"token_dim": array.shape[1], "num_attention_heads": config.num_heads}
        peft_type = "PROMPT_TUNING"
    else:
        array = _joined(added, config)
        width = array.shape[1] // (2 * config.num_layers)
        heads = config.cache_sizes[1] if config.cache_sizes else config.num_heads
        sizes = {"token_dim": width, "num_attention_heads": heads}
        peft_type, start = "PREFIX_TUNING", {"prefix_projection": False, "encoder_hidden_size": None}
    counts = {"num_virtual_tokens": len(array), "num_layers": config.num_layers, "num_transformer_submodules": 1}
    return Written({KEY: array}, {"peft_type": peft_type, **sizes, **start, **counts}, {})


def _joined(added: Mapping[str, Any], config: TextConfig) -> np.ndarray:
    found: dict[tuple[int, int], Any] = {}
    for path, array in added.items():
        match = _PREFIX.fullmatch(path)
        if match is None or config.task == "seq2seq":
            raise InputError(f"the adaptation added {path!r}: {ADVICE}")
        found[int(match["layer"]), int(match["part"] == "value")] = np.asarray(array)
    if missing := [layer for layer in range(config.num_layers) if (layer, 0) not in found or (layer, 1) not in found]:
        raise InputError(
            f"the adaptation added prefixes, but none to layer {missing[0]}, and the PEFT format holds those of all "
            f"layers: give prefix no selector, or {ADVICE}"
        )
    return np.concatenate([found[place] for place in sorted(found)], axis=1)


def read_prompts(
    peft_type: str, fields: Mapping[str, Any], array: Array, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """The vectors by path here."""
    if array.ndim != 2 or fields.get("num_virtual_tokens") not in (None, array.shape[0]):
        raise InputError(
            f"{KEY} is {list(array.shape)}, but {CONFIG} says num_virtual_tokens {fields.get('num_virtual_tokens')!r}: "
            "write or fetch the adapter again"
        )
    if peft_type != "PREFIX_TUNING":
        width = shapes.get(WORDS, (0, 0))[1]
        _check_width(array, width, "the size of the word embeddings")
        return {PROMPT: array}
    kernels = {int(match["layer"]): path for path in shapes if (match := _KERNEL.fullmatch(path))}
    paths = [kernels[layer].removesuffix("key/kernel") for layer in sorted(kernels)]
    _check_width(array, sum(2 * shapes[f"{path}key/kernel"][1] for path in paths), "a key and a value of every layer")
    found, start = {}, 0
    for path in paths:
        size = shapes[f"{path}key/kernel"][1]
        for part in ("key", "value"):
            found[f"{path}prefix/{part}"] = array[:, start : start + size]
            start += size
    return found


def _check_width(array: Array, width: int, meaning: str) -> None:
    if array.shape[1] != width:
        raise InputError(
            f"{KEY} is {list(array.shape)} in the adapter but [places, {width}] in these params, {meaning}: load its "
            "base model"
        )
