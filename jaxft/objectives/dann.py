"""Domain-adversarial training: features from which no discriminator can tell the domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.discriminator import HIDDEN, apply_mlp, domain_accuracy, domain_cross_entropy, init_mlp
from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.reversal import Scale, check_scale, reverse_gradient, scale_at, told
from jaxft.objectives.task import labelled
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective, Weights

IGNORED = -100
"""The label of a row that no class weight counts."""


def dann(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    scale: Scale = 1.0,
    hidden: int = HIDDEN,
    class_weights: Any = None,
) -> Objective:
    """A discriminator learns to tell the domains apart, the features to make that hard, by a reversed gradient.

    L = ½ (mean −log σ(D(R(f_s))) + mean −log σ(−D(R(f_t)))),  R(x) = x with the gradient −λ

    The discriminator, two hidden layers with ReLU, is among the weights that learn, and sees the whole gradient. The
    features see −λ of it: λ is a schedule of its own, beside the weight of the term, which multiplies both.

    Args:
        layer: what the discriminator reads: "features", "logits", "probabilities", or the number of a hidden state.
        source: name of a view.
        target: name of a view; labels are not read.
        scale: λ, a number, traced or not, or a schedule of the step such as `reversal_schedule`.
        hidden: units of each hidden layer.
        class_weights: one for each class of the source, ``[classes]``, by which its rows count, as
            `partial_class_weights` gives them for a target with fewer classes; the source then needs labels. A row
            of the label −100 does not count.

    Returns:
        An objective with the metrics "scale", λ, and "accuracy" of the discriminator, 0.5 where it is confused. Its
        loss is NaN at a step where the schedule gives no number from 0 up, or a label is none of the weighted classes.

    Raises:
        InputError: λ is below zero or no number; a view is not in the batch, has no rows, or features of another size;
            the model does not give the layer; there is not one weight for each class.

    Example:
        >>> import jaxft as ft
        >>> domain = dann(scale=ft.reversal_schedule(600))
        >>> objective = ft.combine(task=ft.cross_entropy("source"), domain=domain)

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", 2016. Cao et al., "Partial Adversarial Domain
        Adaptation", 2018 (class weights).
    """
    check_scale(scale, "dann")

    def init(key: Key, context: Context) -> tuple[tuple[()], Weights, tuple[()]]:
        (f_s, _), (f_t, _) = (layer_of(context, view, layer) for view in (source, target))
        check_domains(f_s, f_t, "dann")
        return (), init_mlp(key, (f_s.shape[1], hidden, hidden, 1)), ()

    def apply(frozen: Any, weights: Weights, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen
        (f_s, counts_s), (f_t, counts_t) = (layer_of(context, view, layer) for view in (source, target))
        check_domains(f_s, f_t, "dann")
        value = scale_at(scale, context.step)
        z_s, z_t = (apply_mlp(weights, reverse_gradient(f, value))[:, 0] for f in (f_s, f_t))
        rows = None if class_weights is None else _weights_of(class_weights, context, source)
        loss = domain_cross_entropy(z_s, z_t, source_mask=counts_s, target_mask=counts_t, source_weights=rows)
        accuracy = domain_accuracy(z_s, z_t, counts_s, counts_t)
        return told(loss, value), (memory, {"scale": value, "accuracy": accuracy})

    return Objective(init, apply)


def _weights_of(class_weights: Array | Sequence[float], context: Context, source: str) -> Array:
    """The weight of each row's class; zero where the label is ignored, NaN where it is none of the classes."""
    w = jnp.asarray(class_weights, jnp.float32)
    labels, logits = labelled(context.batch, source)["labels"], context.forward(source).logits
    if w.ndim != 1 or (logits is not None and w.shape != logits.shape[-1:]):
        classes = "each class" if logits is None else f"each of {logits.shape[-1]} classes"
        raise InputError(f"dann expects class_weights of one number for {classes}, but got {list(w.shape)}")
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"dann weighs rows by labels, whole numbers [batch], but they are {labels.dtype} {list(labels.shape)}"
        )
    known = (labels >= 0) & (labels < len(w))
    return jnp.where(labels == IGNORED, 0.0, jnp.where(known, w[jnp.clip(labels, 0, len(w) - 1)], jnp.nan))
