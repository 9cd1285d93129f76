"""How the next token is chosen from its logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.types import Array, Key


def filtered(logits: Array, *, top_k: int | None = None, top_p: float | Array | None = None) -> Array:
    """Rules out all but the likeliest tokens.

    First those beyond the ``top_k`` likeliest; of the rest, renormalised, those beyond the fewest whose probabilities
    sum to ``top_p`` or more. The likeliest always stays; tokens as likely as the last that stays do too.

    Args:
        logits: ``[..., vocabulary]``, divided by the temperature already.
        top_k: how many tokens stay; None is all.
        top_p: the probability that stays, in (0, 1]; may be traced.

    Returns:
        The logits, minus infinity where a token is ruled out.

    Example:
        >>> filtered(jnp.array([4.0, 3.0, 2.0]), top_p=0.8).tolist()
        [4.0, 3.0, -inf]

    References:
        Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation", 2018 (top-k).
        Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020 (top-p).
    """
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits >= smallest, logits, -jnp.inf)
    if top_p is not None:
        falling = -jnp.sort(-logits, axis=-1)
        probabilities = jax.nn.softmax(falling, axis=-1)
        before = jnp.cumsum(probabilities, axis=-1) - probabilities
        smallest = jnp.where(before < top_p, falling, jnp.inf).min(axis=-1, keepdims=True)
        logits = jnp.where(logits >= smallest, logits, -jnp.inf)
    return logits


def sample(
    key: Key,
    logits: Array,
    *,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Draws a token from softmax(z / T), restricted as :func:`filtered` says.

    Args:
        key: of the draw.
        logits: z, ``[..., vocabulary]``.
        temperature: T > 0; may be traced.
        top_k: how many tokens may be drawn.
        top_p: the probability of the tokens that may be drawn.

    Returns:
        ``[...]`` int32.

    Example:
        >>> int(sample(jax.random.key(0), jnp.array([0.0, 5.0, 1.0]), top_k=1))
        1
    """
    scaled = filtered(logits.astype(jnp.float32) / temperature, top_k=top_k, top_p=top_p)
    return jax.random.categorical(key, scaled, axis=-1).astype(jnp.int32)
