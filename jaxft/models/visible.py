"""Which token may look at which, and where each one stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxft.models.cache import Cache
from jaxft.models.slots import extended


class Sight(NamedTuple):
    """What a decoder's tokens see.

    Attributes:
        mask: ``[batch, 1, queries, keys]`` bool.
        positions: ``[batch, queries]``: each token's place in its own document, counted without padding.
        key_positions: ``[batch, keys]``.
        visible: ``[batch, keys]`` bool: no padding.
    """

    mask: Array
    positions: Array
    key_positions: Array
    visible: Array


def attention_mask(batch: Mapping[str, Array]) -> Array:
    """``[batch, length]`` bool; everything is visible when the batch does not say."""
    ids = batch["input_ids"]
    return jnp.asarray(batch.get("attention_mask", jnp.ones(ids.shape, jnp.int32)), bool)


def causal(
    visible: Array,
    segment_ids: Array | None = None,
    cache: Cache | None = None,
    *,
    prompt: int = 0,
    prefix: int = 0,
) -> Sight:
    """Each token sees itself and the tokens before it that are no padding, in its own segment.

    Args:
        visible: ``[batch, length]`` bool, of the tokens that are new.
        segment_ids: ``[batch, length]``, which document each token belongs to; only without a cache.
        cache: the tokens seen before.
        prompt: places before the new tokens that belong to every segment.
        prefix: the position of the first place of all.
    """
    visible = extended(visible, prompt)
    length = visible.shape[1]
    start = jnp.zeros((), jnp.int32) if cache is None else cache.place
    if cache is not None:
        visible = jax.lax.dynamic_update_slice(cache.visible, visible, (0, start))
    places = jnp.arange(visible.shape[1])
    queries = start + jnp.arange(length)
    mask = (places[None, :] <= queries[:, None])[None] & visible[:, None, :]
    positions = jnp.maximum(jnp.cumsum(visible, axis=1) - 1, 0)
    if segment_ids is not None:
        mask = mask & _in_one_segment(segment_ids, prompt)
        first = jnp.broadcast_to(jnp.arange(prompt), (segment_ids.shape[0], prompt))
        positions = jnp.concatenate([first, prompt + _places_in_segment(segment_ids)], axis=1)
    positions = positions + prefix
    own = positions if cache is None else jax.lax.dynamic_slice_in_dim(positions, start, length, axis=1)
    return Sight(mask[:, None], own, positions, visible)


def within(sight: Sight, window: int | None) -> Array:
    """The mask of a layer whose tokens see ``window`` tokens, themselves included; None is all."""
    if window is None:
        return sight.mask
    distance = sight.positions[:, :, None] - sight.key_positions[:, None, :]
    return sight.mask & (distance < window)[:, None]


def _in_one_segment(segment_ids: Array, prompt: int) -> Array:
    """``[batch, queries, keys]`` bool, where a prompt, whatever segment its places get, is a key in each of them."""
    segments = jnp.pad(segment_ids, ((0, 0), (prompt, 0)))
    return (segments[:, :, None] == segments[:, None, :]) | (jnp.arange(segments.shape[1]) < prompt)


def _places_in_segment(segment_ids: Array) -> Array:
    places = jnp.arange(segment_ids.shape[1])[None]
    before = jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    starts = jnp.where(segment_ids != before, places, 0)
    return places - jax.lax.cummax(starts, axis=1)
