"""How far one prediction is from another."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.task import over
from jaxft.types import Array


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
    if logits.shape != other.shape or logits.ndim < 2 or logits.shape[-1] < 2:
        raise InputError(
            "a divergence compares logits [..., classes] of one shape over at least two classes, but they are "
            f"{list(logits.shape)} and {list(other.shape)}"
        )
    shape = logits.shape[:-1]
    counts = over(jnp.ones(shape[:1], bool) if mask is None else mask, shape)
    # A class that is ruled out has a log-probability of −∞ on both sides, whose difference is no number.
    log_p, log_q = (
        jnp.maximum(jax.nn.log_softmax(jnp.where(counts[..., None], z.astype(jnp.float32), 0.0)), -1e30)
        for z in (logits, other)
    )
    divergences = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
    return jnp.sum(jnp.where(counts, divergences, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
