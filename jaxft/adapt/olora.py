"""Low-rank adaptation that starts at orthonormal directions of the weight."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from jaxft.adapt.residual import residual
from jaxft.types import Adaptation, Array, Choice


def olora(
    selector: Choice,
    *,
    rank: int | Mapping[str, int] = 8,
    alpha: float | Array | Mapping[str, float] | None = None,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Trains the first rows and columns of the QR decomposition of each selected weight; the rest of it is frozen.

    Wᵀ = Q R,  A₀ = (R_:r)ᵀ,  B₀ = (Q_:r)ᵀ,  x W' = x (W − s A₀ B₀) + s (x A) B

    The paper decomposes W as y = W x has it, which is Wᵀ here: the rows of B₀ are orthonormal. The decomposition is
    computed in float32, stacked weights one by one, a convolution's kernel as [height · width · in, out]. The adapted
    model starts as the base model up to rounding. The base is changed: the frozen params hold W − s A₀ B₀, and
    ``frozen.extra["query/kernel"]`` the `Taken` A₀ and B₀, from which `double_rank` makes the change of the original
    weight as factors of rank 2r.

    Args:
        selector: the weights to adapt, such as ``"**/attention/{query,value}/kernel"``.
        rank: r, one for all or by glob over paths (the first that matches holds).
        alpha: α of s = α/r, likewise; may be traced. None is r, so that s = 1.
        axes: which axes are stacked, inputs and outputs, as of `lora`.

    Raises:
        InputError: a rank below one, or at ``init`` one above that of the weight, a selector that matches nothing, a
            pattern of a mapping that matches no selected weight, a weight that is kept in parts (quantised) or whose
            axes are not known.

    Example:
        >>> import jax
        >>> frozen, delta = olora("query", rank=1).init(jax.random.key(0), {"query": jnp.diag(jnp.array([9.0, 4.0]))})
        >>> abs(delta["query"]["a"]), abs(delta["query"]["b"])
        (Array([[9.],
               [0.]], dtype=float32), Array([[1., 0.]], dtype=float32))

    References:
        Büyükakyüz, "OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models", 2024.
    """

    def factors(w: Array, r: int, s: float | Array) -> tuple[Array, Array]:
        del s  # A₀ B₀ is the part of W whatever it is scaled by
        q, triangle = jnp.linalg.qr(jnp.swapaxes(w, -1, -2))
        return jnp.swapaxes(triangle[..., :r, :], -1, -2), jnp.swapaxes(q[..., :, :r], -1, -2)

    return residual("olora", selector, factors, rank=rank, alpha=alpha, axes=axes)
