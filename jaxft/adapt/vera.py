"""Vector-based random matrix adaptation: one pair of random matrices for all layers, two learned vectors a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.branch import Branch, attach, laid_out, sites
from jaxft.adapt.kept import Kept, open_kept
from jaxft.adapt.layout import layout
from jaxft.adapt.options import check_rank, check_rate
from jaxft.errors import InputError
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params


def vera(
    selector: Choice,
    *,
    rank: int = 256,
    d_init: float | Array = 0.1,
    dropout: float | Array = 0.0,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains two vectors between frozen random matrices that all selected weights share.

    x W' = x W + (((x A) ⊙ d) B) ⊙ b

    A ``[in, rank]`` and B ``[rank, out]`` are as large as the largest selected weight asks and cut to the size of each;
    they stand once beside the frozen params, ``frozen.extra["vera_A"]`` and ``["vera_B"]``. Both are drawn
    Kaiming-uniform: in ±√(6/in) of the largest number of inputs, and in ±√(6/rank). They depend on the key, so runs
    that differ in their seeds share the params but not all that is frozen. d starts at 0.1 and b at zero, so that the
    adapted model starts as the base model. A weight has rank + (number of outputs) parameters. Stacked layers share the
    matrices too, which are repeated for each of them while the model runs.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all.
        d_init: where d starts; may be traced.
        dropout: rate in [0, 1) on the input of the branch in training; may be traced.
        axes: which axes are stacked, inputs and outputs, as of `lora`.

    Raises:
        InputError: a rank below one, a dropout rate outside [0, 1), or at ``init`` a selector that matches nothing,
            a weight whose axes are not known.

    Example:
        >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}}
        >>> frozen, delta = vera("query/kernel", rank=3).init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, (frozen.extra, delta["query"]["kernel"]))
        ({'vera_A': (6, 3), 'vera_B': (3, 4)}, {'b': (4,), 'd': (3,)})

    References:
        Kopiczko et al., "VeRA: Vector-based Random Matrix Adaptation", 2024.
    """
    if isinstance(rank, Mapping):
        raise InputError(f"vera shares its matrices among all weights, so it has one rank for all, but got {rank!r}")
    check_rank(rank, "vera")
    check_rate(dropout, "vera")

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        found = sites(selector, params, key, method="vera", axes=axes)
        dtype = jnp.result_type(*(site.leaf.dtype for site in found.values()))
        widest_in = max(math.prod(site.layout.inputs) for site in found.values())
        widest_out = max(math.prod(site.layout.outputs) for site in found.values())
        a_key, b_key = jax.random.split(key)
        shared = {
            "vera_A": _kaiming(a_key, (widest_in, rank), widest_in).astype(dtype),
            "vera_B": _kaiming(b_key, (rank, widest_out), rank).astype(dtype),
        }
        trained = {
            path: {
                "d": jnp.full((*stack, rank), d_init, leaf.dtype),
                "b": jnp.zeros((*stack, *outputs), leaf.dtype),
            }
            for path, (_, leaf, (stack, _, outputs), _) in found.items()
        }
        return Kept(params, shared), laid_out(params, trained)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        params, shared = open_kept(frozen)

        def branch(path: str, leaf: Any, parts: Any) -> Branch:
            stack, inputs, outputs = layout(path, leaf, axes, "vera")
            a = shared["vera_A"][: math.prod(inputs)].reshape(*inputs, rank).astype(leaf.dtype)
            b = shared["vera_B"][:, : math.prod(outputs)].reshape(rank, *outputs).astype(leaf.dtype)
            d = parts["d"].reshape(*stack, rank, *(1 for _ in outputs))
            scaled = d * b * parts["b"].reshape(*stack, 1, *outputs)
            return Branch(jnp.broadcast_to(a, (*stack, *a.shape)), scaled, 1.0, len(stack))

        return attach(params, delta, branch, key=key, dropout=dropout)

    return Adaptation(init, bind)


def _kaiming(key: Key, shape: tuple[int, ...], inputs: int) -> Array:
    bound = math.sqrt(6 / inputs)
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)
