"""Adaptation in the form of a singular value decomposition, whose values a budget is spread over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.branch import Branch, Site, attach, laid_out, sites
from jaxft.adapt.layout import layout
from jaxft.adapt.options import check_rank, check_rate, for_path
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params


def adalora(
    selector: Choice,
    *,
    rank: int | Mapping[str, int] = 12,
    alpha: float | Array | Mapping[str, float] = 16.0,
    dropout: float | Array = 0.0,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains an update in the form of a singular value decomposition beside each selected weight.

    x W' = x W + s ((x P) ⊙ Λ) Q,  s = α/r

    P and Q start normal with a standard deviation of 0.02, Λ at zero, so that the adapted model starts as the base
    model. Two more parts make the method of the paper: `rank_budget` around the optimizer sets the least important
    entries of Λ to zero, down to its budget over all weights, and the objective `orthogonality` keeps P and Q near
    orthonormal. s does not change with the budget.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r to start with, one for all or by glob over paths (the first that matches holds); the paper starts with
            1.5 times the average rank of the budget.
        alpha: α, likewise; may be traced.
        dropout: rate in [0, 1) on the input of the branch in training; may be traced.
        axes: which axes are stacked, inputs and outputs, as of `lora`.

    Raises:
        InputError: a rank below one, a dropout rate outside [0, 1), or at ``init`` a selector that matches nothing,
            a pattern of a mapping that matches no selected weight, a weight whose axes are not known.

    Example:
        >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}}
        >>> frozen, delta = adalora("query/kernel", rank=3).init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta["query"]["kernel"])
        {'lambda': (3,), 'p': (6, 3), 'q': (3, 4)}

    References:
        Zhang et al., "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", 2023.
    """
    check_rank(rank, "adalora")
    check_rate(dropout, "adalora")

    def start(site: Site) -> dict[str, Array]:
        stack, inputs, outputs = site.layout
        r, dtype, (p_key, q_key) = for_path(rank, site.path, "rank"), site.leaf.dtype, jax.random.split(site.key)
        return {
            "p": (0.02 * jax.random.normal(p_key, (*stack, *inputs, r))).astype(dtype),
            "lambda": jnp.zeros((*stack, r), dtype),
            "q": (0.02 * jax.random.normal(q_key, (*stack, r, *outputs))).astype(dtype),
        }

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        found = sites(selector, params, key, method="adalora", rank=rank, alpha=alpha, axes=axes)
        return params, laid_out(params, {path: start(site) for path, site in found.items()})

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        def branch(path: str, leaf: Any, parts: Any) -> Branch:
            stack, inputs, _ = layout(path, leaf, axes, "adalora")
            r = parts["lambda"].shape[-1]
            values = parts["lambda"].reshape(*stack, *(1 for _ in inputs), r)
            return Branch(parts["p"] * values, parts["q"], for_path(alpha, path, "alpha") / r, len(stack))

        return attach(frozen, delta, branch, key=key, dropout=dropout)

    return Adaptation(init, bind)
