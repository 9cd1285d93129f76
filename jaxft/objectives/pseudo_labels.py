"""Pseudo-labels: what a model predicts of rows without labels, taken for their labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import what_counts
from jaxft.objectives.task import negative_log_likelihood, no_state, over, part_of
from jaxft.types import Array, Context, Memory, Metrics, Objective


def confident_cross_entropy(
    logits: Array, teacher: Array, *, threshold: float | Array = 0.0, mask: Array | None = None
) -> tuple[Array, Array]:
    """Cross-entropy with the likeliest class of another prediction, where that is likely enough, in float32.

    L = 1/n Σ_i 1[max_c q_ic ≥ τ] (−log p_{i ŷ_i}),  ŷ_i = argmax_c q_ic

    The mean is over all n rows that count, not over those above the threshold alone: the fewer are sure, the less the
    term weighs. No gradient goes through q.

    Args:
        logits: of p, ``[..., classes]``.
        teacher: logits of q, of the same shape.
        threshold: τ; may be traced.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        The loss and the share of rows above the threshold, scalars; both zero when nothing counts.

    Raises:
        InputError: the shapes differ, there is one class alone, or the mask does not fit.

    Example:
        >>> sure_and_not = jnp.log(jnp.array([[0.99, 0.01], [0.6, 0.4]]))
        >>> loss, kept = confident_cross_entropy(jnp.zeros((2, 2)), sure_and_not, threshold=0.95)
        >>> round(float(loss), 4), float(kept)
        (0.3466, 0.5)

    References:
        Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", 2013;
        Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", 2020.
    """
    if logits.shape != teacher.shape or logits.ndim < 2 or logits.shape[-1] < 2:
        raise InputError(
            "pseudo-labels pass between logits [..., classes] of one shape over at least two classes, but they are "
            f"{list(logits.shape)} and {list(teacher.shape)}"
        )
    shape = logits.shape[:-1]
    counts = over(jnp.ones(shape[:1], bool) if mask is None else mask, shape)
    z = jnp.where(counts[..., None], jax.lax.stop_gradient(teacher).astype(jnp.float32), 0.0)
    kept = counts & (jnp.max(jax.nn.softmax(z), axis=-1) >= threshold)
    total = jnp.sum(negative_log_likelihood(logits, jnp.argmax(z, axis=-1), kept))
    rows = jnp.maximum(jnp.sum(counts), 1)
    return total / rows, jnp.sum(kept) / rows


def pseudo_labels(view: str | None = "target", *, threshold: float | Array = 0.0) -> Objective:
    """Cross-entropy of a view without labels with the model's own predictions: pseudo-labels.

    L = 1/n Σ_i 1[max p_i ≥ τ] (−log p_{i ŷ_i}),  ŷ = argmax p without gradient

    The metric "kept" is the share of rows above the threshold. The paper's weight grows with the step: give the term a
    schedule, such as ``optax.linear_schedule(0, 3, 1000)``.

    Args:
        view: name of the part of the batch; its labels, if it has any, are not read. Rows that its ``mask`` leaves out
            do not count, nor do the tokens that its ``attention_mask`` does.
        threshold: τ, none in the paper; may be traced.

    Raises:
        InputError: the view is not in the batch, or the model gives no logits over classes.

    Example:
        >>> import jaxft as ft
        >>> import optax
        >>> own = (pseudo_labels("target", threshold=0.9), optax.linear_schedule(0, 3, 1000))
        >>> objective = ft.combine(task=ft.cross_entropy("source"), own=own)

    References:
        Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", 2013.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        logits = context.forward(view).logits
        counts = what_counts(part_of(context.batch, view), logits)
        loss, kept = confident_cross_entropy(logits, logits, threshold=threshold, mask=counts)
        return loss, (memory, {"kept": kept})

    return Objective(no_state, apply)
