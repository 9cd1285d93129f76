"""Mixup: between two rows, the prediction changes as the inputs do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import labelled, no_state, softmax_cross_entropy
from jaxft.types import PREFIX, Array, Batch, Context, Key, Memory, Metrics, Objective


def mixup(view: str | None = None, *, alpha: float | Array = 0.2) -> Objective:
    """Cross-entropy of mixed rows with both of their labels.

    L = λ CE(f(x̃), y) + (1−λ) CE(f(x̃), y'),  x̃ = λ x + (1−λ) x',  λ ~ Beta(α, α)

    (x', y') are the rows of the same batch in another order, λ is one number a step. The arrays of floats of the view
    are mixed, such as "pixels". A text's tokens have no values between them: the view of a text is refused.

    Args:
        view: name of the labelled part of the batch; rows that its ``mask`` leaves out are mixed into no other and do
            not count.
        alpha: α, positive; may be traced.

    Raises:
        InputError: a view without labels, without an array of floats, or with tokens.

    Example:
        >>> import jaxft as ft
        >>> over_images = ft.mixup("source")

    References:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018.
    """
    if isinstance(alpha, (int, float)) and alpha <= 0:
        raise InputError(f"mixup draws λ from Beta(α, α) and expects a positive alpha, but got {alpha}")

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        part = labelled(context.batch, view)
        labels, inputs = part["labels"], _inputs(part)
        counts = rows_that_count(labels, part.get("mask"))
        share_key, order_key = jax.random.split(context.key)
        share = jax.random.beta(share_key, alpha, alpha, dtype=jnp.float32)
        other = partners(order_key, counts)
        mixed = {name: mix(value, value[other], share) for name, value in inputs.items()}
        logits = context.forward(view, **mixed).logits
        ours, theirs = (softmax_cross_entropy(logits, y, mask=counts) for y in (labels, labels[other]))
        return share * ours + (1 - share) * theirs, (memory, {"share": share})

    return Objective(no_state, apply)


def mix(values: Array, others: Array, share: Array) -> Array:
    """λ x + (1−λ) x', in the dtype of x.

    Example:
        >>> mix(jnp.array([1.0]), jnp.array([3.0]), 0.75).tolist()
        [1.5]
    """
    return (share * values.astype(jnp.float32) + (1 - share) * others.astype(jnp.float32)).astype(values.dtype)


def partners(key: Key, counts: Array) -> Array:
    """For each row that counts another in a random order of them, as row numbers; padding does not change it.

    Example:
        >>> partners(jax.random.key(0), jnp.array([True, False, True])).tolist()[::2] in ([0, 2], [2, 0])
        True
    """
    draws = jax.vmap(lambda index: jax.random.uniform(jax.random.fold_in(key, index)))(jnp.arange(counts.shape[0]))
    order = jnp.argsort(jnp.where(counts, draws, 2.0))  # the rows that count first
    return jnp.where(counts, order[jnp.cumsum(counts) - 1], jnp.arange(counts.shape[0]))


def _inputs(part: Batch) -> dict[str, Array]:
    """The arrays that are mixed."""
    inputs = {name: value for name, value in part.items() if name not in ("labels", "mask", PREFIX)}
    tokens = sorted(name for name, x in inputs.items() if x.ndim > 1 and not jnp.issubdtype(x.dtype, jnp.floating))
    floats = {name: x for name, x in inputs.items() if jnp.issubdtype(x.dtype, jnp.floating)}
    if tokens or not floats:
        raise InputError(
            "mixup mixes arrays of floats, such as pixels or features, but the view has "
            f"{f'whole numbers in {tokens}' if tokens else sorted(inputs)}; a text can be "
            "mixed as the features of a frozen model"
        )
    return floats
