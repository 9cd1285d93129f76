"""Partial domain adaptation: classes of the source that the target does not have weigh less."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import rows_that_count
from jaxft.types import Array


def partial_class_weights(probabilities: Array, *, mask: Array | None = None) -> Array:
    """How much each class of the source matters to a target that may lack some, in float32 and without gradient.

    γ = γ̂ / max_c γ̂_c,  γ̂ = mean_rows p

    The weights are for the source: ``ft.cross_entropy("source", class_weights=γ)``, and γ_y for each source row in a
    discriminator's loss. They are renewed as training goes on, such as once an epoch.

    Args:
        probabilities: p, ``[rows, classes]``, predictions for the whole target.
        mask: bools ``[rows]``; False leaves a row out.

    Returns:
        ``[classes]``, the largest one; all ones when nothing counts.

    Raises:
        InputError: no matrix of probabilities, or a mask that does not fit.

    Example:
        >>> partial_class_weights(jnp.array([[0.25, 0.75, 0.0], [0.5, 0.5, 0.0]]))
        Array([0.6, 1. , 0. ], dtype=float32)

    References:
        Cao et al., "Partial Adversarial Domain Adaptation", 2018.
    """
    if probabilities.ndim != 2:
        raise InputError(
            f"class weights are the mean of probabilities [rows, classes], but they are {list(probabilities.shape)}"
        )
    counts = rows_that_count(probabilities, mask)[:, None]
    total = jnp.sum(jnp.where(counts, jax.lax.stop_gradient(probabilities).astype(jnp.float32), 0.0), axis=0)
    largest = jnp.max(total)
    return jnp.where(largest > 0, total / jnp.where(largest > 0, largest, 1.0), 1.0)
