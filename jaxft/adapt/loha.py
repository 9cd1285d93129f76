"""Low-rank Hadamard products: a change of rank r² from factors of rank r."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.branch import Branch, Site, attach, laid_out, sites
from jaxft.adapt.layout import layout
from jaxft.adapt.lowrank import uniform_columns
from jaxft.adapt.options import check_rank, for_path
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params


def loha(
    selector: Choice,
    *,
    rank: int | Mapping[str, int] = 8,
    alpha: float | Array | Mapping[str, float] = 8.0,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains the elementwise product of two low-rank matrices beside each selected weight.

    W' = W + s (A₁B₁) ⊙ (A₂B₂),  s = α/r

    The product of matrices of rank r is one of rank r²: its factors are the products of every column of A₁ with every
    column of A₂, and of every row of B₁ with every row of B₂. The model computes with those, so a branch costs as much
    as one of `lora` of rank r² with 2r (inputs + outputs) parameters. A₁ and A₂ start uniform in ±1/√(number of
    inputs), B₁ in ±1/√r and B₂ at zero, so that the adapted model starts as the base model. A convolution's kernel
    counts as the matrix [height · width · in, out].

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all or by glob over paths (the first that matches holds).
        alpha: α, likewise; may be traced.
        axes: which axes are stacked, inputs and outputs, as of `lora`.

    Raises:
        InputError: a rank below one, or at ``init`` a selector that matches nothing, a pattern of a mapping that
            matches no selected weight, a weight whose axes are not known.

    Example:
        >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}}
        >>> adaptation = loha("query/kernel", rank=2)
        >>> frozen, delta = adaptation.init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta["query"]["kernel"])
        {'a1': (6, 2), 'a2': (6, 2), 'b1': (2, 4), 'b2': (2, 4)}
        >>> adaptation.bind(frozen, delta)["query"]["kernel"].rank
        4

    References:
        Hyeon-Woo et al., "FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning", 2022.
        Yeh et al., "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation", 2023.
    """
    check_rank(rank, "loha")

    def start(site: Site) -> dict[str, Array]:
        stack, inputs, outputs = site.layout
        r, dtype = for_path(rank, site.path, "rank"), site.leaf.dtype
        keys, bound = jax.random.split(site.key, 3), 1 / math.sqrt(math.prod(inputs))
        b1 = jax.random.uniform(keys[2], (*stack, r, *outputs), jnp.float32, -1 / math.sqrt(r), 1 / math.sqrt(r))
        return {
            "a1": uniform_columns(keys[0], (*stack, *inputs), r, bound).astype(dtype),
            "b1": b1.astype(dtype),
            "a2": uniform_columns(keys[1], (*stack, *inputs), r, bound).astype(dtype),
            "b2": jnp.zeros((*stack, r, *outputs), dtype),
        }

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        found = sites(selector, params, key, method="loha", rank=rank, alpha=alpha, axes=axes)
        return params, laid_out(params, {path: start(site) for path, site in found.items()})

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        del key

        def branch(path: str, leaf: Any, parts: Any) -> Branch:
            stack = len(layout(path, leaf, axes, "loha").stack)
            a1, a2, r = parts["a1"], parts["a2"], parts["a1"].shape[-1]
            a = (a1[..., :, None] * a2[..., None, :]).reshape(*a1.shape[:-1], r * r)
            b = jnp.expand_dims(parts["b1"], stack + 1) * jnp.expand_dims(parts["b2"], stack)
            b = b.reshape(*b.shape[:stack], r * r, *b.shape[stack + 2 :])
            return Branch(a, b, for_path(alpha, path, "alpha") / r, stack)

        return attach(frozen, delta, branch)

    return Adaptation(init, bind)
