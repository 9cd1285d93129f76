"""Low-rank adaptation that starts as a part of the weight: that part learns, what is left of the weight is frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxft.adapt.branch import Branch, Site, attach, laid_out, sites
from jaxft.adapt.kept import Kept, open_kept
from jaxft.adapt.layout import layout
from jaxft.adapt.options import check_rank, for_path
from jaxft.errors import InputError
from jaxft.trees import map_with_path
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params
from jaxft.weights import is_structured


class Taken(NamedTuple):
    """The factors whose scaled product was taken out of a weight.

    Attributes:
        a: A₀, ``[*stack, *in, rank]``.
        b: B₀, ``[*stack, rank, *out]``.
    """

    a: Array
    b: Array


def double_rank(a: Array, b: Array, taken: Taken, *, batch_axes: int = 0) -> tuple[Array, Array]:
    """Factors of the change of the original weight, for formats that know no changed base.

    s [A, A₀] [B; −B₀] = s (A B − A₀ B₀)

    The scale is that of A and B: written as α/r it is 2α/2r. The original weight with this change equals the frozen
    weight with A and B up to the rounding of the frozen weight to its type.

    Args:
        a: A, ``[*stack, *in, rank]``.
        b: B, ``[*stack, rank, *out]``.
        taken: A₀ and B₀, as in ``frozen.extra["query/kernel"]`` of `pissa` and `olora`.
        batch_axes: how many leading axes are stacked.

    Returns:
        ``[*stack, *in, 2 · rank]`` and ``[*stack, 2 · rank, *out]``.

    Example:
        >>> a, b = double_rank(jnp.ones((6, 2)), jnp.ones((2, 4)), Taken(jnp.ones((6, 2)), jnp.ones((2, 4))))
        >>> a.shape, b.shape, float(jnp.abs(a @ b).max())
        ((6, 4), (4, 4), 0.0)
    """
    return jnp.concatenate([a, taken.a], axis=-1), jnp.concatenate([b, -taken.b], axis=batch_axes)


def residual(
    method: str,
    selector: Choice,
    factors: Callable[[Array, int, float | Array], tuple[Array, Array]],
    *,
    rank: int | Mapping[str, int],
    alpha: float | Array | Mapping[str, float] | None,
    axes: str | Mapping[str, str] | None,
) -> Adaptation:
    """The adaptation whose A and B are made of the weight, and whose frozen weight is W − s A₀ B₀.

    Args:
        method: for the messages of errors.
        selector: of the weights.
        factors: ``factors(W, r, s) -> (A, B)`` in float32, of W ``[*stack, in, out]``.
        rank: r, one for all or by glob.
        alpha: α of s = α/r, likewise; None is r.
        axes: see `lora`.
    """
    check_rank(rank, method)

    def scale(path: str, r: int) -> float | Array:
        return 1.0 if alpha is None else for_path(alpha, path, "alpha") / r

    def take(site: Site) -> tuple[Array, Taken]:
        stack, inputs, outputs = site.layout
        r, largest = for_path(rank, site.path, "rank"), min(math.prod(inputs), math.prod(outputs))
        if is_structured(site.leaf):
            raise InputError(
                f"{method} changes the weight itself, but {site.path!r} is kept in parts ({site.leaf.kind}): adapt the "
                f"plain weight and quantise after, as in chain({method}(…), quantise(…))"
            )
        if r > largest:
            raise InputError(
                f"{method} takes its {r} columns from {site.path!r}, which has rank {largest} at most: choose a rank "
                "up to that"
            )
        s, w = scale(site.path, r), site.leaf.astype(jnp.float32)
        matrix = w.reshape(*stack, math.prod(inputs), math.prod(outputs))
        a, b = (factor.astype(site.leaf.dtype) for factor in factors(matrix, r, s))
        # Of the rounded factors, so that the frozen weight makes up for their rounding.
        product = jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
        left = (w - s * product.reshape(w.shape)).astype(site.leaf.dtype)
        return left, Taken(a.reshape(*stack, *inputs, r), b.reshape(*stack, r, *outputs))

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        options = {"rank": rank} if alpha is None else {"rank": rank, "alpha": alpha}
        found = sites(selector, params, key, method=method, axes=axes, **options)
        taken = {path: take(site) for path, site in found.items()}
        rest = map_with_path(
            lambda path, leaf: taken[path][0] if path in taken else leaf, params, is_leaf=is_structured
        )
        start = {path: {"a": factor.a, "b": factor.b} for path, (_, factor) in taken.items()}
        return Kept(rest, {path: factor for path, (_, factor) in taken.items()}), laid_out(params, start)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        del key

        def branch(path: str, leaf: Any, parts: Any) -> Branch:
            stack = len(layout(path, leaf, axes, method).stack)
            return Branch(parts["a"], parts["b"], scale(path, parts["a"].shape[-1]), stack)

        return attach(open_kept(frozen).params, delta, branch)

    return Adaptation(init, bind)
