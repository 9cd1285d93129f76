"""A fingerprint that says whether two trees hold the same arrays, bit for bit."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.trees.paths import leaf_paths
from jaxft.types import PyTree


def fingerprint(tree: PyTree) -> str:
    """Returns the sha256 of the paths, dtypes, shapes and little-endian bytes of all leaves, in hexadecimal.

    It depends on no container type, key order, device or byte order of the machine.

    Args:
        tree: any pytree of arrays, scalars and random keys.

    Example:
        >>> fingerprint({"a": np.zeros(2), "b": np.ones(3)}) == fingerprint({"b": np.ones(3), "a": np.zeros(2)})
        True
    """
    digest = hashlib.sha256()
    for path, leaf in sorted(leaf_paths(tree).items()):
        array = _host(leaf)
        digest.update(f"{path}\0{array.dtype.name}\0{array.shape}\0".encode())
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _host(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)
