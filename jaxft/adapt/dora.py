"""DoRA: a weight's direction learns by low rank, the length of each of its columns by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.layout import Layout, layout
from jaxft.adapt.lowrank import lora
from jaxft.adapt.masked import MaskedRank
from jaxft.trees import map_with_path
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params
from jaxft.weights import LowRank, is_structured, materialise, scaled


def dora(
    selector: Choice,
    *,
    rank: int | MaskedRank | Mapping[str, int] = 8,
    alpha: float | Array | Mapping[str, float] = 16.0,
    rank_stabilized: bool = False,
    dropout: float | Array = 0.0,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains a low-rank update of each selected weight's direction, and the length of each of its columns.

    W' = m · (W + s A B) / ‖W + s A B‖,  s = α/r, or α/√r when rank-stabilised

    The norm is of each column, over all inputs (of a convolution height, width and input channels, of an embedding the
    vocabulary), and a constant for the gradient. m starts as ‖W‖ and B at zero, so that the adapted model starts as
    the base model; a column of zeros keeps a factor of one for as long as it is zero.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all or by glob over paths (the first that matches holds), or a `MaskedRank`.
        alpha: α, likewise; may be traced.
        rank_stabilized: whether to scale by α/√r.
        dropout: rate in [0, 1) on the input of the low-rank branch in training; may be traced. The base and the
            norm see no dropout. (PEFT's layer also reads (m/‖·‖ − 1) x W from the dropped input.)
        axes: one letter for each axis of a weight as in `lora`; stacked axes have lengths of their own.

    Raises:
        InputError: what `lora` raises, whose branch this is.

    Example:
        >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}}
        >>> frozen, delta = dora("query/kernel", rank=2).init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        {'query': {'bias': None, 'kernel': {'a': (6, 2), 'b': (2, 4), 'm': (4,)}}}

    References:
        Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024.
    """
    branch = lora(selector, rank=rank, alpha=alpha, rank_stabilized=rank_stabilized, dropout=dropout, axes=axes)

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        frozen, factors = branch.init(key, params)

        def with_lengths(path: str, leaf: Any, factor: Any) -> Any:
            if factor is None:
                return None
            pieces = layout(path, leaf, axes, "dora")
            return {**factor, "m": _lengths(leaf, pieces).astype(factor["a"].dtype)}

        return frozen, map_with_path(with_lengths, branch.bind(frozen, factors), factors, is_leaf=_is_place)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        def scale(path: str, leaf: Any, factor: Any) -> Any:
            if factor is None:
                return leaf
            pieces, m = layout(path, leaf, axes, "dora"), factor["m"]
            # The norm is rounded as m was when it started, so that their ratio starts at one in any type.
            norm = _lengths(leaf, pieces).astype(m.dtype).astype(jnp.float32)
            ratio = jnp.where(norm > 0, m.astype(jnp.float32) / jnp.where(norm > 0, norm, 1), 1)
            return scaled(leaf, ratio.reshape(*pieces.stack, *(1 for _ in pieces.inputs), *pieces.outputs))

        return map_with_path(scale, branch.bind(frozen, delta, key=key), delta, is_leaf=_is_place)

    return Adaptation(init, bind)


def _is_place(node: Any) -> bool:
    return node is None or is_structured(node)


def _lengths(w: LowRank, pieces: Layout) -> Array:
    """‖W + s A B‖ of each column, ``[*stack, *outputs]`` in float32, a constant for the gradient.

    ‖W + s A B‖² = ‖W‖² + 2 s ⟨Wᵀ A, B⟩ + s² ⟨B, Aᵀ A B⟩, so that the sum is not built.
    """
    base, a, b, s = jax.lax.stop_gradient((w.base, w.a, w.b, w.scale))
    many, inputs, outputs = (math.prod(sizes) for sizes in pieces)
    w0 = materialise(base).astype(jnp.float32).reshape(many, inputs, outputs)
    a = a.astype(jnp.float32).reshape(many, inputs, w.rank)
    b = (b.astype(jnp.float32) * s).reshape(many, outputs, w.rank)
    product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    along = 2 * product("sio,sir->sor", w0, a) + product("sor,srq->soq", b, product("sir,siq->srq", a, a))
    squared = jnp.sum(jnp.square(w0), axis=1) + jnp.sum(along * b, axis=-1)
    return jnp.sqrt(jnp.maximum(squared, 0)).reshape(*pieces.stack, *pieces.outputs)
