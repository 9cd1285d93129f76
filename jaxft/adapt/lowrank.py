"""Low-rank adaptation: a frozen weight and a trained product of two thin factors beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.adapt.masked import MaskedRank
from jaxft.errors import InputError, nearest
from jaxft.trees import first_match, leaf_paths, map_with_path, select
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params
from jaxft.weights import is_structured, low_rank

_DEFAULT_AXES = {2: "io", 4: "iiio"}


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
        dropout: rate in [0, 1) on the input of the branch in training; may be traced.
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
    for r in columns.values() if isinstance(columns, Mapping) else (columns,):
        if isinstance(r, bool) or not isinstance(r, (int, np.integer)) or r < 1:
            raise InputError(f"lora expects a rank of at least 1, a whole number, but got {r!r}")
    if isinstance(dropout, (int, float, np.number)) and not 0 <= dropout < 1:
        raise InputError(f"lora expects a dropout rate in [0, 1), but got {dropout}")

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        mask = select(selector, params)
        chosen = [path for path, take in leaf_paths(mask).items() if take]
        for option, name in ((rank, "rank"), (alpha, "alpha"), (axes, "axes")):
            _check_patterns(option, chosen, name)

        def factors(path: str, leaf: Any, take: bool) -> dict[str, Array] | None:
            if not take:
                return None
            stack, inputs, outputs = _layout(path, leaf, axes)
            r, bound = _for_path(columns, path, "rank"), 1 / math.sqrt(math.prod(inputs))
            a = _columns(jax.random.fold_in(key, chosen.index(path)), (*stack, *inputs), r, bound)
            return {"a": a.astype(leaf.dtype), "b": jnp.zeros((*stack, r, *outputs), leaf.dtype)}

        return params, map_with_path(factors, params, mask)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        count = iter(range(len(leaf_paths(delta))))

        def adapt(path: str, leaf: Any, factor: Any) -> Any:
            if factor is None:
                return leaf
            a, r = factor["a"], factor["a"].shape[-1]
            if isinstance(rank, MaskedRank):
                a, r = a * (jnp.arange(r) < rank.value).astype(a.dtype), rank.value
            s = _for_path(alpha, path, "alpha") / (r**0.5 if rank_stabilized else r)
            return low_rank(
                leaf,
                a,
                factor["b"],
                scale=s,
                batch_axes=len(_layout(path, leaf, axes)[0]),
                key=None if key is None or _is_zero(dropout) else jax.random.fold_in(key, next(count)),
                dropout=dropout,
            )

        return map_with_path(adapt, frozen, delta, is_leaf=lambda leaf: leaf is None or is_structured(leaf))

    return Adaptation(init, bind)


def _columns(key: Key, shape: tuple[int, ...], count: int, bound: float) -> Array:
    """Uniform in ±bound, ``[*shape, count]``, each column from a key of its own."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))
    return jax.vmap(lambda k: jax.random.uniform(k, shape, jnp.float32, -bound, bound), out_axes=-1)(keys)


def _is_zero(rate: float | Array) -> bool:
    return isinstance(rate, (int, float, np.number)) and bool(rate == 0)


def _for_path(option: Any, path: str, name: str) -> Any:
    if not isinstance(option, Mapping):
        return option
    pattern = first_match(option, path)
    if pattern is None:
        raise InputError(
            f"no pattern of {name} matches the selected weight {path!r}; add a last pattern '**' for the rest"
        )
    return option[pattern]


def _check_patterns(option: Any, chosen: list[str], name: str) -> None:
    if isinstance(option, Mapping):
        for pattern in option:
            if not any(first_match([pattern], path) for path in chosen):
                raise InputError(
                    f"the pattern {pattern!r} of {name} matches none of the {len(chosen)} selected weights; "
                    f"{nearest(pattern, chosen)}"
                )


def _layout(path: str, leaf: Any, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Splits the shape of a weight into its stacked, input and output axes."""
    pattern = first_match(axes, path) if isinstance(axes, Mapping) else None
    letters = axes if isinstance(axes, str) else axes[pattern] if pattern else _DEFAULT_AXES.get(leaf.ndim)
    shape = tuple(leaf.shape)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise InputError(
            f"lora expects floating-point weights, but {path!r} is {leaf.dtype}; leave it out of the selector"
        )
    if letters is None and leaf.ndim < 2:
        raise InputError(f"lora expects matrices, but {path!r} has shape {list(shape)}; leave it out of the selector")
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
    return shape[:stack], shape[stack : stack + inputs], shape[stack + inputs :]
