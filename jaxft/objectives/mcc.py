"""Minimum class confusion: predictions that do not mix up classes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.objectives.entropy import entropy_of_rows, kept_logits
from jaxft.objectives.layer import layer_of
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def mcc(logits: Array, *, temperature: float | Array = 2.5, mask: Array | None = None) -> Array:
    """How much a batch of predictions confuses each class with the others, in float32.

    Ŷ = softmax(z / T),  w_i = B (1 + e^{−H_i}) / Σ_j (1 + e^{−H_j}),  C = Ŷᵀ diag(w) Ŷ with rows of sum one
    L = (Σ C − tr C) / K

    The weights w of the rows that are surer are a constant to gradients.

    Args:
        logits: z, ``[batch, classes]``.
        temperature: T; may be traced.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar from 0 to 1 − 1/K.

    Raises:
        InputError: the logits are no matrix, or the mask does not fit.

    Example:
        >>> round(float(mcc(jnp.zeros((5, 4)))), 4), round(float(mcc(1e3 * jnp.eye(4))), 4)
        (0.75, 0.0)

    References:
        Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation", 2020.
    """
    z, counts = kept_logits(logits, mask, "class confusion")
    z = z / temperature
    y = jnp.where(counts[:, None], jax.nn.softmax(z), 0.0)
    sure = jnp.where(counts, 1 + jnp.exp(-entropy_of_rows(z)), 0.0)
    w = jax.lax.stop_gradient(jnp.sum(counts) * sure / jnp.maximum(jnp.sum(sure), 1.0))
    confusion = y.T @ (w[:, None] * y)
    rows = jnp.sum(confusion, axis=1, keepdims=True)
    # A class without any probability confuses nothing.
    shares = jnp.where(rows > 0, confusion / jnp.where(rows > 0, rows, 1.0), 0.0)
    return (jnp.sum(shares) - jnp.trace(shares)) / logits.shape[1]


def minimum_class_confusion(view: str = "target", *, temperature: float | Array = 2.5) -> Objective:
    """Lessens how much the predictions of rows without labels confuse classes: MCC.

    L = (Σ C − tr C) / K, C the class confusion of the batch

    Args:
        view: whose predictions; its labels are not read.
        temperature: T; may be traced.

    Raises:
        InputError: the view is not in the batch, or the model gives no logits ``[batch, classes]``.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), clear=(minimum_class_confusion(), 1.0))

    References:
        Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation", 2020.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        logits, counts = layer_of(context, view, "logits")
        return mcc(logits, temperature=temperature, mask=counts), (memory, {})

    return Objective(no_state, apply)
