"""Relative positions in buckets, as T5 tells distances apart.

References:
    Raffel et al. Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, 2020.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array


def buckets(relative: Array, count: int, max_distance: int, bidirectional: bool) -> Array:
    """The kind of each distance r: r itself where it is small, then logarithmically coarser up to ``max_distance``.

    With n kinds (half of ``count`` when ``bidirectional``, the other half for keys that come later) and e = n // 2:
    min(n − 1, e + ⌊(n − e) log(r / e) / log(max_distance / e)⌋) for r ≥ e.

    Args:
        relative: place of the key minus place of the query.
        count: kinds in all.
        max_distance: farther tokens share the last kind.
        bidirectional: whether queries see keys that come later; else those count as distance 0.
    """
    kinds = count // 2 if bidirectional else count
    exact = kinds // 2
    # Looked up and not computed: a logarithm one bit off would move a distance to another bucket.
    distances = np.arange(max_distance + 1, dtype=np.float32)
    log = np.log(np.maximum(distances, exact) / np.float32(exact)) / np.float32(np.log(max_distance / exact))
    coarse = np.minimum(exact + (log * (kinds - exact)).astype(np.int32), kinds - 1)
    lookup = jnp.asarray(np.where(distances < exact, distances, coarse), jnp.int32)
    later = jnp.where(relative > 0, kinds, 0) if bidirectional else 0
    distance = jnp.abs(relative) if bidirectional else jnp.maximum(-relative, 0)
    return later + lookup[jnp.minimum(distance, max_distance)]
