"""Flax NNX modules as the pair every step takes: a pure function and its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxft.types import Params
from jaxft.weights import lift


def from_nnx(module: Any) -> tuple[Callable[..., Any], Params]:
    """Splits an NNX module into ``(apply, params)``.

    ``apply(params, *args, **kwargs)`` is the module's call with its ``nnx.Param`` values replaced; other variables
    keep the values they have now. To train it with a step, let the module take ``(batch, *, train, key)`` and
    return :class:`jaxft.types.Outputs`.

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

    graph, state, rest = nnx.split(module, nnx.Param, ...)
    flat = state.flat_state()
    keys = [path for path, _ in flat]
    params: dict[str, Any] = {}
    for path, variable in flat:
        *parents, name = (str(part) for part in path)
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = variable.get_value()

    def value(params: Params, path: tuple[Any, ...]) -> Any:
        for part in path:
            params = params[str(part)]
        return params

    def apply(params: Params, *args: Any, **kwargs: Any) -> Any:
        variables = {path: variable.replace(value(params, path)) for path, variable in flat}
        return nnx.merge(graph, nnx.State.from_flat_path(variables), rest)(*args, **kwargs)

    return lift(apply), params
