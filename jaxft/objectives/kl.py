"""How far one prediction is from another."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import mean_of_rows
from jaxft.objectives.task import over
from jaxft.types import Array


def compared(
    logits: Array, other: Array, mask: Array | None, *, temperature: float | Array = 1.0
) -> tuple[Array, Array, Array]:
    """Log-probabilities of two predictions in float32, and which of them count.

    Args:
        logits: ``[..., classes]``.
        other: of the same shape.
        mask: bools over the leading axes; False leaves a row or token out.
        temperature: both are divided by it.

    Raises:
        InputError: the shapes differ, there is one class alone, or the mask does not fit.

    Example:
        >>> log_p, log_q, counts = compared(jnp.zeros((1, 2)), jnp.ones((1, 2)), None)
        >>> log_p.round(4).tolist(), counts.tolist()
        ([[-0.6930999755859375, -0.6930999755859375]], [True])
    """
    if logits.shape != other.shape or logits.ndim < 2 or logits.shape[-1] < 2:
        raise InputError(
            "a divergence compares logits [..., classes] of one shape over at least two classes, but they are "
            f"{list(logits.shape)} and {list(other.shape)}"
        )
    shape = logits.shape[:-1]
    counts = over(jnp.ones(shape[:1], bool) if mask is None else mask, shape)
    # What does not count is set aside before anything is computed of it, so that its NaN reaches no gradient; a class
    # that is ruled out has a log-probability of −∞ on both sides, whose difference is no number.
    log_p, log_q = (
        jnp.maximum(jax.nn.log_softmax(jnp.where(counts[..., None], z.astype(jnp.float32), 0.0) / temperature), -1e30)
        for z in (logits, other)
    )
    return log_p, log_q, counts


def kl_divergence(logits: Array, other: Array, *, mask: Array | None = None) -> Array:
    """Mean Kullback–Leibler divergence from one prediction to another, in float32.

    L = mean KL(p ‖ q) = mean Σ_c p_c (log p_c − log q_c)

    Args:
        logits: of p, ``[..., classes]``.
        other: logits of q, of the same shape.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        A scalar; zero when nothing counts.

    Raises:
        InputError: the shapes differ, there is one class alone, or the mask does not fit.

    Example:
        >>> round(float(kl_divergence(jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.0]]))), 5)
        0.12011
    """
    log_p, log_q, counts = compared(logits, other, mask)
    return mean_of_rows(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), counts)
