"""R3F: what a model says does not change when its inputs hardly do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.kl import compared
from jaxft.objectives.noise import WORDS, depends, shape_of_noise, unit_noise
from jaxft.objectives.rows import mean_of_rows, what_counts
from jaxft.objectives.task import part_of
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective

NOISES = ("uniform", "normal")


def symmetric_kl(logits: Array, other: Array, *, mask: Array | None = None) -> Array:
    """Mean symmetric Kullback–Leibler divergence between two predictions, in float32.

    L = mean KL(p ‖ q) + KL(q ‖ p) = mean Σ_c (p_c − q_c)(log p_c − log q_c)

    Args:
        logits: of p, ``[..., classes]``.
        other: logits of q, of the same shape.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        A scalar; zero when nothing counts.

    Raises:
        InputError: the shapes differ, there is one class alone, or the mask does not fit.

    Example:
        >>> round(float(symmetric_kl(jnp.array([[0.0, 0.0]]), jnp.array([[1.0, 0.0]]))), 5)
        0.23106
    """
    log_p, log_q, counts = compared(logits, other, mask)
    return mean_of_rows(jnp.sum((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q), axis=-1), counts)


def r3f(
    view: str | None = None,
    *,
    noise: str = "uniform",
    radius: float | Array = 1e-5,
    weight: float | Array = 1.0,
    input: str = WORDS,
    dim: int | None = None,
) -> Objective:
    """Keeps predictions the same under noise in the inputs, without the inner maximisation of a trust region.

    L = λ [KL(f(x + z) ‖ f(x)) + KL(f(x) ‖ f(x + z))],  z ~ U(−ε, ε) or N(0, ε²)

    The cross-entropy of the paper is the task, a term beside this one. Both passes drop the same units, so that the
    noise alone moves the prediction, and the gradient goes through both; the authors' code draws dropout anew for the
    second pass, which adds the divergence between two networks. Of logits over tokens those count that are text. Spans,
    whose logits are no probabilities of classes, are not meant. In bfloat16 a word embedding does not show noise of
    1e-5: compute in float32 or take a larger radius.

    Args:
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count.
        noise: "uniform" or "normal".
        radius: ε; may be traced.
        weight: λ; may be traced.
        input: where the noise enters: the word embeddings of a text, or an array of floats of the view, such as
            "pixels". A row has noise of its own, whatever rows stand beside it.
        dim: of the word embeddings, where they are narrower than the hidden states.

    Raises:
        InputError: another kind of noise; or at ``init``, a view without the input, a model without hidden states to
            take the shape of the word embeddings from, or one whose logits do not depend on the noise.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy(), smooth=r3f())
        >>> for_images = ft.combine(task=ft.cross_entropy(), smooth=r3f(input="pixels", noise="normal", radius=1e-3))

    References:
        Aghajanyan et al., "Better Fine-Tuning by Reducing Representational Collapse", 2020.
    """
    if noise not in NOISES:
        raise InputError(f"r3f expects noise to be one of {', '.join(NOISES)}, but got {noise!r}")

    def noisy(context: Context, shape: tuple[int, ...]) -> dict[str, Array]:
        z = radius * unit_noise(context.key, noise, shape)
        return {input: z if input == WORDS else part_of(context.batch, view)[input] + z}

    def init(key: Key, context: Context) -> tuple[Any, Any, Any]:
        del key
        outputs: Any = jax.eval_shape(lambda: context.forward(view, train=False))
        shape = shape_of_noise(outputs, part_of(context.batch, view), input, dim, "r3f")

        def logits(change: dict[str, Array]) -> Array:
            found: Array = context.forward(view, train=False, **change).logits
            return found

        if not depends(logits, jax.eval_shape(lambda: noisy(context, shape))):
            raise InputError(
                f"the logits of the model do not depend on {input!r}, so that r3f would do nothing; name the array of "
                "the batch that the noise is for, as in r3f(input='pixels')"
            )
        return (), (), ()

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        clean = context.forward(view)
        part = part_of(context.batch, view)
        changed = context.forward(view, **noisy(context, shape_of_noise(clean, part, input, dim, "r3f")))
        counts = what_counts(part, clean.logits)
        return weight * symmetric_kl(changed.logits, clean.logits, mask=counts), (memory, {})

    return Objective(init, apply)
