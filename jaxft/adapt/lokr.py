"""Low-rank Kronecker products: a small full matrix times a low-rank one, block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.adapt.branch import Branch, Site, attach, laid_out, sites
from jaxft.adapt.layout import Layout, layout
from jaxft.adapt.lowrank import uniform_columns
from jaxft.adapt.options import check_rank, for_path
from jaxft.errors import InputError
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params


def lokr(
    selector: Choice,
    *,
    rank: int | Mapping[str, int] = 8,
    alpha: float | Array | Mapping[str, float] = 8.0,
    factor: int = 8,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains the Kronecker product of a small matrix and a low-rank one beside each selected weight.

    W' = W + s C ⊗ (A B),  s = α/r

    C is [c₁, c₂], where c₁ is the largest divisor of the number of inputs up to ``factor`` and c₂ that of the outputs;
    A is [inputs/c₁, r] and B [r, outputs/c₂]. Because C ⊗ (A B) = (C ⊗ A)(I ⊗ B) = (I ⊗ A)(C ⊗ B), the model computes
    with factors of rank r · min(c₁, c₂). C starts uniform in ±1/√c₁ and A in ±1/√(number of its inputs), B at zero, so
    that the adapted model starts as the base model. A weight has c₁c₂ + r (inputs/c₁ + outputs/c₂) parameters. C of a
    convolution's kernel (height, width, in, out) spans the channels and A the positions as well; the heads of an
    attention kernel count with their axis as one.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all or by glob over paths (the first that matches holds).
        alpha: α, likewise; may be traced.
        factor: the largest size of C.
        axes: which axes are stacked, inputs and outputs, as of `lora`.

    Raises:
        InputError: a rank or factor below one, or at ``init`` a selector that matches nothing, a pattern of a mapping
            that matches no selected weight, a weight whose axes are not known.

    Example:
        >>> params = {"query": {"kernel": jnp.ones((24, 20)), "bias": jnp.ones(20)}}
        >>> adaptation = lokr("query/kernel", rank=2)
        >>> frozen, delta = adaptation.init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta["query"]["kernel"])
        {'a': (3, 2), 'b': (2, 4), 'c': (8, 5)}
        >>> adaptation.bind(frozen, delta)["query"]["kernel"].rank
        10

    References:
        Yeh et al., "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation", 2023.
        Edalati et al., "KronA: Parameter Efficient Tuning with Kronecker Adapter", 2022.
    """
    check_rank(rank, "lokr")
    if isinstance(factor, bool) or not isinstance(factor, (int, np.integer)) or factor < 1:
        raise InputError(f"lokr expects a factor of at least 1, a whole number, but got {factor!r}")

    def start(site: Site) -> dict[str, Array]:
        sizes, dtype, r = _sizes(site.layout, factor), site.leaf.dtype, for_path(rank, site.path, "rank")
        stack, (c_key, a_key) = site.layout.stack, jax.random.split(site.key)
        bounds = 1 / math.sqrt(sizes.c1), 1 / math.sqrt(math.prod((*sizes.positions, sizes.n1)))
        c = jax.random.uniform(c_key, (*stack, sizes.c1, sizes.c2), jnp.float32, -bounds[0], bounds[0])
        return {
            "c": c.astype(dtype),
            "a": uniform_columns(a_key, (*stack, *sizes.positions, sizes.n1), r, bounds[1]).astype(dtype),
            "b": jnp.zeros((*stack, r, sizes.n2), dtype),
        }

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        found = sites(selector, params, key, method="lokr", rank=rank, alpha=alpha, axes=axes)
        return params, laid_out(params, {path: start(site) for path, site in found.items()})

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        del key

        def branch(path: str, leaf: Any, parts: Any) -> Branch:
            place = layout(path, leaf, axes, "lokr")
            a, b = _factors(place, parts["c"], parts["a"], parts["b"])
            return Branch(a, b, for_path(alpha, path, "alpha") / parts["a"].shape[-1], len(place.stack))

        return attach(frozen, delta, branch)

    return Adaptation(init, bind)


class _Sizes(NamedTuple):
    """Of C [c1, c2], A [*positions, n1, r] and B [r, n2]."""

    c1: int
    c2: int
    n1: int
    n2: int
    positions: tuple[int, ...]


def _sizes(place: Layout, factor: int) -> _Sizes:
    convolution = len(place.inputs) == 3
    positions = place.inputs[:-1] if convolution else ()
    inputs, outputs = place.inputs[-1] if convolution else math.prod(place.inputs), math.prod(place.outputs)
    c1, c2 = (max(d for d in range(1, factor + 1) if size % d == 0) for size in (inputs, outputs))
    return _Sizes(c1, c2, inputs // c1, outputs // c2, positions)


def _factors(place: Layout, c: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Of the two ways to write C ⊗ (A B) as a product of two matrices, the one of the smaller rank."""
    (c1, c2), r, stack = c.shape[-2:], a.shape[-1], place.stack
    n1, n2, positions = a.shape[-2], b.shape[-1], math.prod(a.shape[len(stack) : -2])
    a = a.reshape(*stack, positions, 1, n1, 1, r)
    b = b.reshape(*stack, 1, r, 1, n2)
    if c2 <= c1:
        a = c.reshape(*stack, 1, c1, 1, c2, 1) * a
        b = jnp.eye(c2, dtype=b.dtype)[:, None, :, None] * b
    else:
        a = jnp.eye(c1, dtype=a.dtype)[:, None, :, None] * a
        b = c.reshape(*stack, c1, 1, c2, 1) * b
    wide = min(c1, c2) * r
    return a.reshape(*stack, *place.inputs, wide), b.reshape(*stack, wide, *place.outputs)
