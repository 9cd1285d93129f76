"""Low-rank adaptation: a frozen weight and a trained product of two thin factors beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.branch import Branch, Site, attach, laid_out, sites
from jaxft.adapt.layout import layout
from jaxft.adapt.masked import MaskedRank
from jaxft.adapt.options import check_rank, check_rate, for_path
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params


def lora(
    selector: Choice,
    *,
    rank: int | MaskedRank | Mapping[str, int] = 8,
    alpha: float | Array | Mapping[str, float] = 16.0,
    rank_stabilized: bool = False,
    dropout: float | Array = 0.0,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains a low-rank update beside each selected weight.

    x W' = x W + s (x A) B,  s = α/r, or α/√r when rank-stabilised

    A starts uniform in ±1/√(number of inputs), B at zero, so that the adapted model starts as the base model. The
    columns of A are drawn one by one: with one key a smaller rank starts as the first columns of a larger one.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all or by glob over paths (the first that matches holds), or a `MaskedRank`.
        alpha: α, likewise; may be traced.
        rank_stabilized: whether to scale by α/√r.
        dropout: rate in [0, 1) on the input of the branch in training; may be traced. It acts on the input of products:
            the look-up of rows in an embedding table has no such input, and no dropout.
        axes: one letter for each axis of a weight, one for all or by glob: ``b`` stacks independent weights,
            ``i`` is an input, ``o`` an output. Two axes are ``"io"`` and four ``"iiio"`` (height, width, in, out)
            unless said; an attention kernel [dim, heads, head_dim] is ``"ioo"``, stacked layers are ``"bio"``.

    Raises:
        InputError: a rank below one, a dropout rate outside [0, 1), or at ``init`` a selector that matches nothing,
            a pattern of a mapping that matches no selected weight, a weight whose axes are not known.

    Example:
        >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}}
        >>> frozen, delta = lora("query/kernel", rank=2).init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        {'query': {'bias': None, 'kernel': {'a': (6, 2), 'b': (2, 4)}}}

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
        Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023.
    """
    columns = rank.largest if isinstance(rank, MaskedRank) else rank
    check_rank(columns, "lora")
    check_rate(dropout, "lora")

    def factors(site: Site) -> dict[str, Array]:
        stack, inputs, outputs = site.layout
        r, bound, dtype = for_path(columns, site.path, "rank"), 1 / math.sqrt(math.prod(inputs)), site.leaf.dtype
        a = uniform_columns(site.key, (*stack, *inputs), r, bound)
        return {"a": a.astype(dtype), "b": jnp.zeros((*stack, r, *outputs), dtype)}

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        found = sites(selector, params, key, method="lora", rank=rank, alpha=alpha, axes=axes)
        return params, laid_out(params, {path: factors(site) for path, site in found.items()})

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        def branch(path: str, leaf: Any, parts: Any) -> Branch:
            a, r = parts["a"], parts["a"].shape[-1]
            if isinstance(rank, MaskedRank):
                a, r = a * (jnp.arange(r) < rank.value).astype(a.dtype), rank.value
            s = for_path(alpha, path, "alpha") / (r**0.5 if rank_stabilized else r)
            return Branch(a, parts["b"], s, len(layout(path, leaf, axes, "lora").stack))

        return attach(frozen, delta, branch, key=key, dropout=dropout)

    return Adaptation(init, bind)


def uniform_columns(key: Key, shape: tuple[int, ...], count: int, bound: float) -> Array:
    """Uniform in ±bound, ``[*shape, count]``, each column from a key of its own."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))
    return jax.vmap(lambda k: jax.random.uniform(k, shape, jnp.float32, -bound, bound), out_axes=-1)(keys)
