"""Layers of a pretrained model made fresh again."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.trees import leaf_paths, map_with_path, select
from jaxft.types import Array, Choice, Key, Params
from jaxft.weights import is_structured

NORMAL, ONES, ZEROS = ("kernel", "embedding"), ("scale",), ("bias",)


def reinitialise(params: Params, selector: Choice, key: Key, *, scale: float | Array = 0.02) -> Params:
    """Returns params whose selected leaves start afresh; the others are the same arrays.

    W ~ N(0, scale²),  b = 0,  γ = 1

    The last layers of a pretrained encoder are good for its own task, not for a start on another.

    Args:
        params: of the model, plain arrays at the selected paths.
        selector: the layers, such as ``"{encoder/layer_{10,11},pooler}/**"``.
        key: of the draws.
        scale: standard deviation of kernels and tables; may be traced. ``model.config.initializer_range`` is what the
            model started with.

    Raises:
        InputError: the selector matches nothing, a weight kept in parts, or a leaf that is called neither kernel,
            embedding, scale nor bias.

    Example:
        >>> params = {"dense": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "norm": {"scale": jnp.zeros(2)}}
        >>> fresh = reinitialise(params, "**", jax.random.key(0))
        >>> fresh["dense"]["bias"].tolist(), fresh["norm"]["scale"].tolist()
        ([0.0, 0.0], [1.0, 1.0])
        >>> bool(abs(fresh["dense"]["kernel"]).max() < 0.1)
        True

    References:
        Zhang et al., "Revisiting Few-sample BERT Fine-tuning", 2021.
    """
    mask = select(selector, params)
    chosen = [path for path, take in leaf_paths(mask).items() if take]

    def start(path: str, leaf: Array, take: bool) -> Array:
        if not take:
            return leaf
        name = path.rpartition("/")[2]
        if is_structured(leaf) or name not in NORMAL + ONES + ZEROS or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise InputError(
                f"reinitialise knows how kernel, embedding, scale and bias start, as plain arrays of floats; {path!r} "
                f"is {type(leaf).__name__ if is_structured(leaf) else leaf.dtype}: leave it out of the selector"
            )
        if name not in NORMAL:
            return jnp.full(leaf.shape, float(name in ONES), leaf.dtype)
        one = jax.random.fold_in(key, chosen.index(path))
        return (scale * jax.random.normal(one, leaf.shape, jnp.float32)).astype(leaf.dtype)

    return map_with_path(start, params, mask, is_leaf=is_structured)
