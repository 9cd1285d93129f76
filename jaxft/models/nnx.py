"""Flax NNX modules as the pair every step takes: a pure function and its parameters."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax

from jaxft.types import Params
from jaxft.weights import lift


def from_nnx(module: Any) -> tuple[Callable[..., Any], Params]:
    """Splits an NNX module into ``(apply, params)``.

    ``apply(params, *args, **kwargs)`` is the module's call with its ``nnx.Param`` values replaced; other variables
    keep the values they have now: what a call changes in them is dropped. To train it with a step, let the module
    take ``(batch, *, train, key)`` and return :class:`jaxft.types.Outputs`.

    Args:
        module: an ``nnx.Module``.

    Returns:
        A pure function that understands structured weights, and the params as a nested dict with string keys.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> apply, params = from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
        >>> sorted(params), apply(params, jnp.ones((4, 3))).shape
        (['bias', 'kernel'], (4, 2))
    """
    from flax import nnx

    graph, everything = nnx.split(module)
    state, rest = nnx.split_state(everything, nnx.Param, ...)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    paths = [tuple(str(key.key) for key in path if hasattr(key, "key")) for path, _ in leaves]
    params: dict[str, Any] = {}
    for (*parents, name), (_, leaf) in zip(paths, leaves, strict=True):
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf

    def apply(params: Params, *args: Any, **kwargs: Any) -> Any:
        values = [functools.reduce(operator.getitem, path, params) for path in paths]
        return nnx.merge(graph, jax.tree.unflatten(structure, values), rest, copy=True)(*args, **kwargs)

    return lift(apply), params
