"""Which axes of a weight are stacked, which are inputs and which are outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.trees import first_match

DEFAULT_AXES = {2: "io", 4: "iiio"}
"""Of a weight with so many axes: a dense kernel, and a convolution's (height, width, in, out)."""


class Layout(NamedTuple):
    """The shape of a weight in three pieces."""

    stack: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def layout(path: str, leaf: Any, axes: str | Mapping[str, str] | None, method: str) -> Layout:
    """Splits the shape of a weight into its stacked, input and output axes.

    Args:
        path: of the weight, for the message of an error.
        leaf: an array or a structured weight.
        axes: one letter an axis, for all or by glob over paths: ``b`` stacked, ``i`` input, ``o`` output.
        method: that asks, for the message of an error.

    Raises:
        InputError: the weight holds no floats, is no matrix, or its axes are not known.

    Example:
        >>> layout("query/kernel", jnp.ones((6, 4)), None, "lora")
        Layout(stack=(), inputs=(6,), outputs=(4,))
    """
    letters = axes if isinstance(axes, str) else DEFAULT_AXES.get(leaf.ndim)
    if isinstance(axes, Mapping) and (pattern := first_match(axes, path)):
        letters = axes[pattern]
    shape = tuple(leaf.shape)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise InputError(
            f"{method} expects floating-point weights, but {path!r} is {leaf.dtype}; leave it out of the selector"
        )
    if letters is None and leaf.ndim < 2:
        raise InputError(
            f"{method} expects matrices, but {path!r} has shape {list(shape)}; leave it out of the selector"
        )
    if letters is None:
        raise InputError(
            f"which of the axes of {path!r}, shape {list(shape)}, are inputs? Name each by a letter, "
            f"b (stacked), i (input) or o (output), as in axes={{{path!r}: 'i{'o' * (leaf.ndim - 1)}'}}"
        )
    stack, inputs, outputs = (letters.count(letter) for letter in "bio")
    if letters != "b" * stack + "i" * inputs + "o" * outputs or len(letters) != leaf.ndim or not inputs or not outputs:
        raise InputError(
            f"axes expects one letter an axis, stacked (b) before inputs (i) before outputs (o), "
            f"but got {letters!r} for {path!r} of shape {list(shape)}"
        )
    return Layout(shape[:stack], shape[stack : stack + inputs], shape[stack + inputs :])
