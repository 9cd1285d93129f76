"""Margin disparity discrepancy: a second head that agrees with the first on the source and not on the target."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.discriminator import HIDDEN, apply_mlp, init_mlp
from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.reversal import Scale, check_scale, reverse_gradient, scale_at, told
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.objectives.task import negative_log_likelihood
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective, Weights


def margin_disparity(
    source: Array,
    target: Array,
    source_labels: Array,
    target_labels: Array,
    *,
    gamma: float | Array = 4.0,
    source_mask: Array | None = None,
    target_mask: Array | None = None,
) -> Array:
    """What the second head minimises: agreement on the source, disagreement on the target, in float32.

    L = γ E_s[−log p'_ŷ] − E_t[log(1 − p'_ŷ)]

    Args:
        source: logits of p' on the source, ``[n, classes]``.
        target: on the target, ``[m, classes]``.
        source_labels: ŷ, what the first head predicts, whole numbers ``[n]``.
        target_labels: likewise ``[m]``.
        gamma: γ, the exponential of the margin.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Returns:
        A scalar; a domain of which no row counts adds nothing, and a label that counts and is none of the classes makes
        it NaN.

    Raises:
        InputError: shapes do not fit together, or there is one class alone.

    Example:
        >>> z = jnp.zeros((1, 2))
        >>> round(float(margin_disparity(z, z, jnp.array([0]), jnp.array([1]))), 4)
        3.4657

    References:
        Zhang et al., "Bridging Theory and Algorithm for Domain Adaptation", 2019.
    """
    for logits, labels in ((source, source_labels), (target, target_labels)):
        if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1]:
            raise InputError(
                "the margin disparity expects logits [rows, classes] of two classes or more and a label for each "
                f"row, but they are {list(logits.shape)} and {list(labels.shape)}"
            )
    counts_s, counts_t = rows_that_count(source, source_mask), rows_that_count(target, target_mask)
    agree = negative_log_likelihood(source, source_labels, counts_s)
    z = jnp.where(counts_t[:, None], target.astype(jnp.float32), 0.0)
    own = target_labels[:, None] == jnp.arange(z.shape[1])
    # log(1 − p) from the other classes' logits: 1 − p itself is zero where the head is sure.
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, z), axis=1) - jax.nn.logsumexp(z, axis=1)
    others = jnp.where(jnp.any(own, axis=1), others, jnp.nan)
    return gamma * mean_of_rows(agree, counts_s) - mean_of_rows(others, counts_t)


def mdd(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    scale: Scale = 1.0,
    gamma: float | Array = 4.0,
    hidden: int = HIDDEN,
) -> Objective:
    """A second head, behind a reversed gradient, finds where the first may be wrong; the features leave no such place.

    L = γ CE(f'(R(s)), ŷ_s) − E_t[log(1 − softmax(f'(R(t)))_ŷt)],  ŷ = argmax of the model's own head

    Args:
        layer: what the second head, one hidden layer with ReLU, reads: "features" or the number of a hidden state.
        source: name of a view.
        target: name of a view; labels are read of neither.
        scale: λ of the reversal, as in `dann`.
        gamma: γ; may be traced.
        hidden: units of the hidden layer.

    Raises:
        InputError: as `dann`; the model gives no logits ``[batch, classes]`` of two classes or more.

    Example:
        >>> import jaxft as ft
        >>> margin = mdd(scale=ft.reversal_schedule(600))
        >>> objective = ft.combine(task=ft.cross_entropy("source"), margin=(margin, 0.1))

    References:
        Zhang et al., "Bridging Theory and Algorithm for Domain Adaptation", 2019.
    """
    check_scale(scale, "mdd")

    def read(context: Context) -> list[tuple[Array, Array, Array]]:
        """Features, logits of the model's own head and which rows count, of each domain."""
        both = [(*layer_of(context, view, layer), layer_of(context, view, "logits")[0]) for view in (source, target)]
        check_domains(both[0][0], both[1][0], "mdd")
        return [(features, logits, counts) for features, counts, logits in both]

    def init(key: Key, context: Context) -> tuple[tuple[()], Weights, tuple[()]]:
        features, own, _ = read(context)[0]
        return (), init_mlp(key, (features.shape[1], hidden, own.shape[1])), ()

    def apply(frozen: Any, weights: Weights, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen
        value, logits, labels, counts = scale_at(scale, context.step), [], [], []
        for features, own, rows in read(context):
            logits.append(apply_mlp(weights, reverse_gradient(features, value)))
            labels.append(jnp.argmax(own, axis=1))
            counts.append(rows)
        loss = margin_disparity(*logits, *labels, gamma=gamma, source_mask=counts[0], target_mask=counts[1])
        return told(loss, value), (memory, {"scale": value})

    return Objective(init, apply)
