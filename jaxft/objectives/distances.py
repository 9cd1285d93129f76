"""Distances between the rows of two sets."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import rows_that_count
from jaxft.types import Array


def squared_distances(
    source: Array, target: Array, *, source_mask: Array | None = None, target_mask: Array | None = None
) -> Array:
    """Squared Euclidean distances between the rows of two sets, in float32.

    C_ij = ‖x_i − t_j‖²

    Args:
        source: x, ``[n, dim]``.
        target: t, ``[m, dim]``.
        source_mask: bools ``[n]``; a row that is left out is taken as zeros, so that its NaN goes nowhere.
        target_mask: bools ``[m]``, likewise.

    Raises:
        InputError: the features are no matrices or of different size.

    Example:
        >>> squared_distances(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
        [[25.0, 1.0]]
    """
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise InputError(
            f"distances are between features [rows, dim] of one size, but they are {list(source.shape)} and "
            f"{list(target.shape)}; spaces of different size are coupled by fused_gromov_wasserstein_plan or "
            "co_optimal_transport"
        )
    counts = (rows_that_count(source, source_mask), rows_that_count(target, target_mask))
    pair = zip((source, target), counts, strict=True)
    x, t = (jnp.where(mask[:, None], rows.astype(jnp.float32), 0.0) for rows, mask in pair)
    # Far from the origin squares of the rows cancel to noise; distances do not change with the origin.
    origin = jax.lax.stop_gradient(jnp.sum(t, axis=0) / jnp.maximum(jnp.sum(counts[1]), 1))
    x, t = x - origin, t - origin
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(t**2, axis=1)
    return jnp.maximum(squares - 2 * jnp.matmul(x, t.T, precision="highest"), 0.0)
