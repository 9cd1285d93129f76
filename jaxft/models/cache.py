"""Keys and values of the tokens a decoder has seen, so that each new token costs one token's work."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array


class LayerCache(NamedTuple):
    """Of one layer: ``[batch, kv_heads, places, head_dim]``; those of cross-attention are made by the first call."""

    key: Array
    value: Array
    cross_key: Array | None = None
    cross_value: Array | None = None


class Cache(NamedTuple):
    """Of a decoder.

    A token more than there are places is refused, but within a compiled program, where the number of those before it is
    not known: there its keys and values would take the place of the last ones, so make it long enough.

    Attributes:
        layers: one :class:`LayerCache` a layer.
        visible: ``[batch, places]`` bool: places that hold a token and no padding.
        place: of the next token, a scalar.
        prompt: how many of the places hold a learned prompt, a scalar; None before the first call, which puts it there,
            and for models without one.
    """

    layers: tuple[LayerCache, ...]
    visible: Array
    place: Array
    prompt: Array | None = None

    @property
    def encoded(self) -> bool:
        """Whether it holds what cross-attention reads, so that the encoder need not run again."""
        return self.layers[0].cross_key is not None


def empty_cache(sizes: tuple[int, int, int], rows: int, places: int, dtype: Any = jnp.float32) -> Cache:
    """A cache without tokens.

    Args:
        sizes: layers, key/value heads and head dimension, ``config.cache_sizes``.
        rows: of the batch.
        places: tokens it has room for, those of a learned prompt among them.
        dtype: of keys and values.

    Example:
        >>> cache = empty_cache((2, 3, 8), rows=4, places=16)
        >>> len(cache.layers), cache.layers[0].key.shape
        (2, (4, 3, 16, 8))
    """
    layers, heads, dim = sizes
    return Cache(
        tuple(
            LayerCache(jnp.zeros((rows, heads, places, dim), dtype), jnp.zeros((rows, heads, places, dim), dtype))
            for _ in range(layers)
        ),
        jnp.zeros((rows, places), bool),
        jnp.zeros((), jnp.int32),
    )
