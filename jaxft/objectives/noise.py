"""Noise at the inputs of a model: what shape it has, and whether the model reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from jaxft.errors import InputError
from jaxft.types import Array, Batch, Key, Outputs

WORDS = "embedding_noise"


def unit_noise(key: Key, noise: str, shape: tuple[int, ...]) -> Array:
    """Noise of radius one, ``[batch, …]``, each row from a key of its own.

    Example:
        >>> wide = unit_noise(jax.random.key(0), "uniform", (3, 2))
        >>> bool(jnp.array_equal(wide[:2], unit_noise(jax.random.key(0), "uniform", (2, 2))))
        True
    """

    def row(key: Key) -> Array:
        if noise == "normal":
            return jax.random.normal(key, shape[1:])
        return jax.random.uniform(key, shape[1:], minval=-1.0, maxval=1.0)

    return jax.vmap(row)(jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(shape[0])))


def shape_of_noise(outputs: Outputs, part: Batch, name: str, dim: int | None, method: str) -> tuple[int, ...]:
    """The shape of what a method adds to an input of a view: an array of floats, or the word embeddings.

    Raises:
        InputError: the view has no such array, or the model no hidden states to take the shape from.
    """
    if name != WORDS:
        if name not in part or not jnp.issubdtype(part[name].dtype, jnp.floating):
            raise InputError(f"{method} adds noise to {name!r}, an array of floats, but the view has {sorted(part)}")
        return tuple(part[name].shape)

    states = outputs.encoder_hidden_states or outputs.hidden_states
    if not states or len(states[-1].shape) != 3:
        raise InputError(
            f"{method} takes the shape of the word embeddings from hidden states [batch, length, dim], which the model "
            f"does not give; name the array of the batch that the noise is for, as in {method}(input='pixels')"
        )
    batch, length, hidden = states[-1].shape
    return batch, length, hidden if dim is None else dim


def depends(function: Callable[..., Array], argument: Any) -> bool:
    """Whether any operation between the argument and the result reads it; nothing is computed."""
    traced = jax.make_jaxpr(function)(argument)
    return any(partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.out_avals))[1])
