"""Batch nuclear-norm maximisation: predictions that are sure and of many classes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.objectives.entropy import kept_logits
from jaxft.objectives.layer import layer_of
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def bnm(logits: Array, *, mask: Array | None = None) -> Array:
    """Minus the nuclear norm of a batch of predictions over its rows, in float32.

    L = −‖P‖_* / B,  P = softmax(z)

    Value and gradient are those of tr(UᵀPV) with the singular vectors of P held still, so that both are finite where
    singular values are equal or zero; second derivatives would need the change of the vectors and are not these.

    Args:
        logits: z, ``[batch, classes]``.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar, at least −1; zero when no row counts.

    Raises:
        InputError: the logits are no matrix, or the mask does not fit.

    Example:
        >>> round(float(bnm(1e3 * jnp.eye(4))), 4), round(float(bnm(jnp.zeros((4, 4)))), 4)
        (-1.0, -0.25)

    References:
        Cui et al., "Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient
        Situations", 2020.
    """
    z, counts = kept_logits(logits, mask, "the nuclear norm")
    p = jnp.where(counts[:, None], jax.nn.softmax(z), 0.0)
    u, _, vt = jnp.linalg.svd(jax.lax.stop_gradient(p), full_matrices=False)
    return -jnp.sum((u.T @ p) * vt) / jnp.maximum(jnp.sum(counts), 1)


def nuclear_norm_maximisation(view: str = "target") -> Objective:
    """Makes predictions of rows without labels sure and of many classes: BNM.

    L = −‖softmax(z)‖_* / B

    Args:
        view: whose predictions; its labels are not read.

    Raises:
        InputError: the view is not in the batch, or the model gives no logits ``[batch, classes]``.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), clear=(nuclear_norm_maximisation(), 1.0))

    References:
        Cui et al., "Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient
        Situations", 2020.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        logits, counts = layer_of(context, view, "logits")
        return bnm(logits, mask=counts), (memory, {})

    return Objective(no_state, apply)
