"""Virtual adversarial training: a prediction holds where the inputs move it most."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.kl import kl_divergence
from jaxft.objectives.noise import WORDS, depends, shape_of_noise, unit_noise
from jaxft.objectives.rows import what_counts
from jaxft.objectives.task import part_of
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective, Outputs


def vat(
    view: str | None = "target",
    *,
    radius: float | Array = 1.0,
    xi: float | Array = 1e-2,
    input: str = WORDS,
    dim: int | None = None,
) -> Objective:
    """Holds predictions in the direction in which a small change of the inputs moves them most.

    L = mean KL(p(x) ‖ p(x + r)),  r = ε g / ‖g‖,  g = ∇_d KL(p(x) ‖ p(x + ξ d)),  d random of norm one

    One power iteration finds r, a direction for each row with the norm over all its axes. It is found with the model as
    in evaluation and held still; in L the model runs as in training, with the same dropout in both passes, and p(x) has
    no gradient; running statistics see the changed rows too. Entropy, which the paper adds for semi-supervised
    learning, is a term beside this one.

    Args:
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count.
        radius: ε, the one number that the paper tunes for each set of data; may be traced.
        xi: ξ. The paper's 1e-6 moves predictions less than float32 shows for inputs near one.
        input: where the change enters: the word embeddings of a text, or an array of floats of the view, such as
            "pixels".
        dim: of the word embeddings, where they are narrower than the hidden states.

    Raises:
        InputError: at ``init``, a view without the input, a model without hidden states to take the shape of the word
            embeddings from, or one whose logits do not depend on the input.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), smooth=vat("target"))
        >>> for_images = ft.combine(task=ft.cross_entropy("source"), smooth=vat("target", input="pixels", radius=2.5))

    References:
        Miyato et al., "Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
        Learning", 2018.
    """

    def moved(context: Context, change: Array) -> dict[str, Array]:
        return {input: change if input == WORDS else part_of(context.batch, view)[input] + change}

    def init(key: Key, context: Context) -> tuple[Any, Any, Any]:
        del key
        outputs: Any = jax.eval_shape(lambda: context.forward(view, train=False))
        shape = shape_of_noise(outputs, part_of(context.batch, view), input, dim, "vat")

        def logits(change: Array) -> Array:
            found: Array = context.forward(view, train=False, **moved(context, change)).logits
            return found

        if not depends(logits, jax.ShapeDtypeStruct(shape, jnp.float32)):
            raise InputError(
                f"the logits of the model do not depend on {input!r}, so that vat would do nothing; name the array of "
                "the batch that the change is for, as in vat(input='pixels')"
            )
        return (), (), ()

    def direction(context: Context, clean: Outputs, counts: Array) -> Array:
        shape = shape_of_noise(clean, part_of(context.batch, view), input, dim, "vat")
        p = context.forward(view, train=False).logits

        def divergence(d: Array) -> Array:
            q = context.forward(view, train=False, **moved(context, xi * d)).logits
            return kl_divergence(p, q, mask=counts)

        return unit_rows(jax.grad(divergence)(unit_rows(unit_noise(context.key, "normal", shape))))

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        clean = context.forward(view)
        counts = what_counts(part_of(context.batch, view), clean.logits)
        r = radius * jax.lax.stop_gradient(direction(context, clean, counts))
        changed = context.forward(view, **moved(context, r)).logits
        return kl_divergence(jax.lax.stop_gradient(clean.logits), changed, mask=counts), (memory, {})

    return Objective(init, apply)


def unit_rows(values: Array) -> Array:
    """Each row divided by its norm over all other axes; a row of zeros stays one.

    Example:
        >>> unit_rows(jnp.array([[3e-30, 4e-30], [0.0, 0.0]])).round(3)
        Array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    axes = tuple(range(1, values.ndim))
    largest = jnp.max(jnp.abs(values), axis=axes, keepdims=True)  # squares of small numbers are zero in float32
    scaled = values / jnp.where(largest > 0, largest, 1.0)
    norm = jnp.sqrt(jnp.sum(scaled**2, axis=axes, keepdims=True))
    return scaled / jnp.where(largest > 0, norm, 1.0)
