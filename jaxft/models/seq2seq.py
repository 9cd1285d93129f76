"""What models with an encoder and a decoder share: special tokens, masks, and the cache between calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxft.models.block import Cached
from jaxft.models.cache import Cache, LayerCache
from jaxft.models.config import TextConfig
from jaxft.models.slots import extended
from jaxft.models.visible import Sight, causal


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig(TextConfig):
    """Of an encoder and a decoder.

    Attributes:
        decoder_start_token: what the decoder reads first.
        eos_token: ends an output; None when none does.
        pad_token: fills rows up.
    """

    decoder_start_token: int
    eos_token: int | None
    pad_token: int


def source_visible(batch: Mapping[str, Any], prompt: int = 0) -> Array:
    """``[batch, prompt + source length]`` bool; everything is visible when the batch does not say."""
    if "attention_mask" in batch:
        return extended(jnp.asarray(batch["attention_mask"], bool), prompt)
    cache: Cache | None = batch.get("cache")
    held = None if cache is None else cache.layers[0].cross_key
    if held is not None:
        return jnp.ones((held.shape[0], held.shape[2]), bool)
    return extended(jnp.ones(batch["input_ids"].shape, bool), prompt)


def target_sight(batch: Mapping[str, Any], prefix: int = 0) -> Sight:
    """What the decoder's tokens see of each other, behind a prefix of so many places."""
    ids = batch["decoder_input_ids"]
    visible = jnp.asarray(batch.get("decoder_attention_mask", jnp.ones(ids.shape, jnp.int32)), bool)
    return causal(visible, cache=batch.get("cache"), prefix=prefix)


def seen_by_layers(cache: Cache | None) -> list[Cached] | None:
    """What each layer has seen."""
    return None if cache is None else [Cached(layer, cache.place) for layer in cache.layers]


def next_cache(cache: Cache | None, layers: Sequence[LayerCache], sight: Sight) -> Cache | None:
    """The cache after a call whose tokens are in it."""
    if cache is None:
        return None
    return Cache(tuple(layers), sight.visible, cache.place + sight.positions.shape[1])
