"""Low-rank adaptation of the principal singular values and vectors."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from jaxft.adapt.residual import residual
from jaxft.types import Adaptation, Array, Choice


def pissa(
    selector: Choice,
    *,
    rank: int | Mapping[str, int] = 8,
    alpha: float | Array | Mapping[str, float] | None = None,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains the largest singular values and their vectors of each selected weight; the rest of it is frozen.

    W = U S Vᵀ,  A₀ = U_r √(S_r/s),  B₀ = √(S_r/s) V_rᵀ,  x W' = x (W − s A₀ B₀) + s (x A) B

    The decomposition is computed in float32 of the whole matrix, stacked weights one by one, a convolution's kernel as
    [height · width · in, out]. The adapted model starts as the base model up to rounding. The base is changed: the
    frozen params hold W − s A₀ B₀, and ``frozen.extra["query/kernel"]`` the `Taken` A₀ and B₀, from which `double_rank`
    makes the change of the original weight as factors of rank 2r. Before `quantise` in a chain this is QPiSSA.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all or by glob over paths (the first that matches holds).
        alpha: α of s = α/r, likewise; may be traced. None is r, so that s = 1 as in the paper.
        axes: which axes are stacked, inputs and outputs, as of `lora`.

    Raises:
        InputError: a rank below one, or at ``init`` one above that of the weight, a selector that matches nothing, a
            pattern of a mapping that matches no selected weight, a weight that is kept in parts (quantised) or whose
            axes are not known.

    Example:
        >>> import jax
        >>> frozen, delta = pissa("query", rank=1).init(jax.random.key(0), {"query": jnp.diag(jnp.array([9.0, 4.0]))})
        >>> abs(delta["query"]["a"]), abs(frozen.params["query"])
        (Array([[3.],
               [0.]], dtype=float32), Array([[0., 0.],
               [0., 4.]], dtype=float32))

    References:
        Meng et al., "PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models", 2024.
    """

    def factors(w: Array, r: int, s: float | Array) -> tuple[Array, Array]:
        u, values, vt = jnp.linalg.svd(w, full_matrices=False)
        root = jnp.sqrt(values[..., :r] / s)
        return u[..., :r] * root[..., None, :], root[..., :, None] * vt[..., :r, :]

    return residual("pissa", selector, factors, rank=rank, alpha=alpha, axes=axes)
