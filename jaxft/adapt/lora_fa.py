"""LoRA with a frozen A: half of what LoRA trains, and no input of a layer to remember for A's gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxft.adapt.branch import Branch, attach, laid_out, sites
from jaxft.adapt.kept import Kept, open_kept
from jaxft.adapt.layout import layout
from jaxft.adapt.lowrank import uniform_columns
from jaxft.adapt.options import check_rank, check_rate, for_path
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params


def lora_fa(
    selector: Choice,
    *,
    rank: int | Mapping[str, int] = 8,
    alpha: float | Array | Mapping[str, float] = 16.0,
    dropout: float | Array = 0.0,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains the second factor of a low-rank update beside each selected weight; the first stays as it was drawn.

    x W' = x W + s (x A) B,  s = α/r,  A frozen

    A and B start as those of `lora` with the same key. A is kept beside the frozen params, by the path of its weight:
    ``frozen.extra["query/kernel"]``. It depends on the key, so runs that differ in their seeds share the params but
    not all that is frozen.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all or by glob over paths (the first that matches holds).
        alpha: α, likewise; may be traced.
        dropout: rate in [0, 1) on the input of the branch in training; may be traced.
        axes: which axes are stacked, inputs and outputs, as of `lora`.

    Raises:
        InputError: a rank below one, a dropout rate outside [0, 1), or at ``init`` a selector that matches nothing,
            a pattern of a mapping that matches no selected weight, a weight whose axes are not known.

    Example:
        >>> import jax
        >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}}
        >>> frozen, delta = lora_fa("query/kernel", rank=2).init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, (frozen.extra, delta))
        ({'query/kernel': (6, 2)}, {'query': {'bias': None, 'kernel': {'b': (2, 4)}}})

    References:
        Zhang et al., "LoRA-FA: Memory-efficient Low-rank Adaptation for Large Language Models Fine-tuning", 2023.
    """
    check_rank(rank, "lora_fa")
    check_rate(dropout, "lora_fa")

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        fixed, trained = {}, {}
        found = sites(selector, params, key, method="lora_fa", rank=rank, alpha=alpha, axes=axes)
        for path, (_, leaf, (stack, inputs, outputs), own) in found.items():
            r, bound = for_path(rank, path, "rank"), 1 / math.sqrt(math.prod(inputs))
            fixed[path] = uniform_columns(own, (*stack, *inputs), r, bound).astype(leaf.dtype)
            trained[path] = {"b": jnp.zeros((*stack, r, *outputs), leaf.dtype)}
        return Kept(params, fixed), laid_out(params, trained)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        params, fixed = open_kept(frozen)

        def branch(path: str, leaf: Any, parts: Any) -> Branch:
            s = for_path(alpha, path, "alpha") / fixed[path].shape[-1]
            return Branch(fixed[path], parts["b"], s, len(layout(path, leaf, axes, "lora_fa").stack))

        return attach(params, delta, branch, key=key, dropout=dropout)

    return Adaptation(init, bind)
