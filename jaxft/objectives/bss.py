"""Batch spectral shrinkage: features lose the directions that transfer badly."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import features_of, rows_that_count
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def smallest_singular_values(features: Array, k: int, *, mask: Array | None = None) -> Array:
    """Sum of the squares of the k smallest singular values, in float32.

    L = Σ_{i=1..k} σ²_{r−i+1},  F = U Σ Vᵀ,  r = min(rows that count, dim)

    Value and gradient are those of Σ ‖Fᵀ u_i‖² with the singular vectors u_i held still, so that both are finite where
    singular values are equal or zero; second derivatives would need the change of the vectors and are not these.

    Args:
        features: F, ``[batch, dim]``.
        k: how many, from 1 up; where fewer rows count than k, all there are.
        mask: bools ``[batch]``; the matrix has the rows where it is True alone.

    Raises:
        InputError: the features are no matrix, k is below one or above the smaller side, or the mask does not fit.

    Example:
        >>> smallest_singular_values(jnp.diag(jnp.array([3.0, 1.0, 2.0])), 2)
        Array(5., dtype=float32)
    """
    if features.ndim != 2:
        raise InputError(f"batch spectral shrinkage expects features [batch, dim], but they are {list(features.shape)}")
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= min(features.shape):
        raise InputError(
            f"features {list(features.shape)} have {min(features.shape)} singular values; "
            f"k must be a whole number from 1 to that many, but is {k!r}"
        )
    counts = rows_that_count(features, mask)
    f = jnp.where(counts[:, None], features.astype(jnp.float32), 0.0)
    u = jnp.linalg.svd(jax.lax.stop_gradient(f), full_matrices=False)[0]
    # Rows that do not count add zeros after the singular values of those that do: the last of these are what is meant.
    r = jnp.minimum(jnp.sum(counts), features.shape[1])
    place = jnp.arange(u.shape[1])
    squares = jnp.sum((u.T @ f) ** 2, axis=1)
    return jnp.sum(jnp.where((place >= r - k) & (place < r), squares, 0.0))


def bss(view: str | None = None, *, k: int = 1, weight: float | Array = 1e-3) -> Objective:
    """Shrinks the smallest singular values of a batch of features: batch spectral shrinkage.

    L = η Σ_{i=1..k} σ²_{−i},  σ_{−i} the i-th smallest singular value of the features of the batch

    Args:
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count.
        k: singular values that are penalised.
        weight: η; may be traced.

    Raises:
        InputError: the view is not in the batch, the model gives no features, or fewer than k rows of them.

    Example:
        >>> from jaxft.types import Outputs
        >>> features = jnp.array([[3.0, 0.0], [0.0, 2.0]])
        >>> context = Context(lambda view=None: Outputs(features=features), {}, (), 0, jax.random.key(0))
        >>> round(float(bss().apply((), (), (), context)[0]), 6)
        0.004

    References:
        Chen et al., "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage for Safe Transfer
        Learning", 2019.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        features, mask = features_of(context, view, "bss")
        return weight * smallest_singular_values(features, k, mask=mask), (memory, {})

    return Objective(no_state, apply)
