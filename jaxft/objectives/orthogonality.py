"""How far the factors of a singular value decomposition are from orthonormal ones."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.trees import nodes
from jaxft.types import TRIPLETS, Array, Context, Key, Memory, Metrics, Objective


def gram_distance(columns: Array) -> Array:
    """Squared distance of the Gram matrix of some columns from that of orthonormal ones, in float32.

    ‖MᵀM − I‖²_F, the sum over stacked matrices

    Args:
        columns: M, ``[*stack, size, rank]``.

    Example:
        >>> gram_distance(jnp.array([[2.0, 0.0], [0.0, 1.0]]))
        Array(9., dtype=float32)
    """
    m = columns.astype(jnp.float32)
    gram = jnp.einsum("...ij,...ik->...jk", m, m, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum((gram - jnp.eye(m.shape[-1])) ** 2)


def orthogonality() -> Objective:
    """Keeps the P and Q of every weight that `adalora` adapts near orthonormal.

    R = Σ_k ‖P_kᵀP_k − I‖²_F + ‖Q_kQ_kᵀ − I‖²_F

    A term for ``combine`` beside a task, with the γ of the paper as its weight, 0.1 to 0.5. It reads nothing but the
    delta: weights whose parts do not learn for now, as under `narrow`, are left out of the sum. Public code of the
    method takes the mean over the matrices of norms that are not squared; this is the sum of squares that the paper
    defines.

    Raises:
        InputError: no weight in the delta has parts P, Λ and Q, or some parts of one learn without the others.

    Example:
        >>> from jaxft.objectives import combine, cross_entropy
        >>> objective = combine(task=cross_entropy(), orthogonal=(orthogonality(), 0.1))

    References:
        Zhang et al., "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", 2023.
    """

    def init(key: Key, context: Context) -> tuple[Any, Any, Any]:
        del key
        found = nodes(context.delta, TRIPLETS)
        if not found:
            raise InputError("orthogonality expects an adaptation with jaxft.adalora, but no weight learns P, Λ and Q")
        for path, parts in found.items():
            if 0 < len(jax.tree.leaves(parts)) < len(TRIPLETS):
                some = sorted(name for name, part in parts.items() if part is not None)
                raise InputError(
                    f"orthogonality expects P, Λ and Q of a weight to learn together, but of {path!r} only {some} do; "
                    "select all its parts or none"
                )
        return (), (), ()

    def apply(frozen: Any, weights: Any, memory: Any, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        total = jnp.zeros(())
        for parts in nodes(context.delta, TRIPLETS).values():
            if parts["lambda"] is None:
                continue
            *stack, rank = parts["lambda"].shape
            p, q = parts["p"].reshape(*stack, -1, rank), parts["q"].reshape(*stack, rank, -1)
            total += gram_distance(p) + gram_distance(jnp.swapaxes(q, -1, -2))
        return total, (memory, {})

    return Objective(init, apply)
