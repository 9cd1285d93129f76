"""Adaptive feature norm: features that grow are features that transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def norm_growth(features: Array, *, growth: float | Array = 1.0, mask: Array | None = None) -> Array:
    """How far the norms of features are from being a step larger than they are, in float32.

    L = E[(‖f‖ − (sg ‖f‖ + Δ))²] = Δ², whose gradient −2Δ f/‖f‖ enlarges every norm by as much, whatever it is

    The gradient of a feature that is zero has no direction and is zero.

    Args:
        features: f, ``[batch, dim]``.
        growth: Δ; may be traced.
        mask: bools ``[batch]``; False leaves a row out.

    Raises:
        InputError: the features are no matrix, or the mask does not fit.

    Example:
        >>> jax.grad(norm_growth)(jnp.array([[0.0, 4.0]])).tolist()
        [[-0.0, -2.0]]

    References:
        Xu et al., "Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised Domain
        Adaptation", 2019.
    """
    if features.ndim != 2:
        raise InputError(f"feature norms expect features [batch, dim], but they are {list(features.shape)}")
    counts = rows_that_count(features, mask)
    f = jnp.where(counts[:, None], features.astype(jnp.float32), 0.0)
    squares = jnp.sum(f**2, axis=1)
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return mean_of_rows((norms - jax.lax.stop_gradient(norms) - growth) ** 2, counts)


def adaptive_feature_norm(
    layer: Layer = "features",
    *,
    views: Sequence[str] = ("source", "target"),
    growth: float | Array = 1.0,
    weight: float | Array = 0.05,
) -> Objective:
    """Enlarges the norms of features step by step in both domains: stepwise AFN.

    L = λ Σ_views E[(‖f‖ − sg ‖f‖ − Δ)²]

    The value is constant, λΔ² a view; its gradient is not.

    Args:
        layer: "features", "logits", "probabilities", or the number of a hidden state.
        views: names of views; labels are not read.
        growth: Δ; may be traced.
        weight: λ; may be traced.

    Raises:
        InputError: a view is not in the batch, or the model does not give the layer.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), grow=adaptive_feature_norm())

    References:
        Xu et al., "Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised Domain
        Adaptation", 2019.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        total = jnp.zeros(())
        for view in views:
            values, counts = layer_of(context, view, layer)
            total += norm_growth(values, growth=growth, mask=counts)
        return weight * total, (memory, {})

    return Objective(no_state, apply)
