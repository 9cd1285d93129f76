"""Deep CORAL: the covariances of two domains made equal."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def covariance(x: Array, *, mask: Array | None = None) -> Array:
    """C = Σ_i (x_i − x̄)(x_i − x̄)ᵀ / (n − 1), in float32.

    Args:
        x: ``[n, dim]``.
        mask: bools ``[n]``; False leaves a row out.

    Returns:
        ``[dim, dim]``; zero where fewer than two rows count.

    Raises:
        InputError: the mask does not fit.

    Example:
        >>> covariance(jnp.array([[0.0, 1.0], [2.0, 1.0]])).tolist()
        [[2.0, 0.0], [0.0, 0.0]]
    """
    counts = rows_that_count(x, mask)[:, None]
    n = jnp.sum(counts)
    x = jnp.where(counts, x.astype(jnp.float32), 0.0)
    centred = jnp.where(counts, x - jnp.sum(x, axis=0) / jnp.maximum(n, 1), 0.0)
    return centred.T @ centred / jnp.maximum(n - 1, 1)


def coral(source: Array, target: Array, *, source_mask: Array | None = None, target_mask: Array | None = None) -> Array:
    """Squared distance of the covariances of two domains, in float32.

    L = ‖C_S − C_T‖²_F / 4d²

    Args:
        source: ``[n, d]``.
        target: ``[m, d]``.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Raises:
        InputError: a domain is empty, or the features differ in size.

    Example:
        >>> coral(jnp.array([[0.0], [2.0]]), jnp.array([[0.0], [4.0]]))
        Array(9., dtype=float32)

    References:
        Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", 2016.
    """
    check_domains(source, target, "CORAL")
    difference = covariance(source, mask=source_mask) - covariance(target, mask=target_mask)
    return jnp.sum(difference**2) / (4 * source.shape[1] ** 2)


def deep_coral(layer: Layer = "features", *, source: str = "source", target: str = "target") -> Objective:
    """Makes the covariances of the source's and the target's rows in one layer equal: Deep CORAL.

    L = ‖C_S − C_T‖²_F / 4d²

    Args:
        layer: "features", "logits", "probabilities", or the number of a hidden state; the paper's is the last layer
            of the network, the logits.
        source: name of a view.
        target: name of a view; labels are read of neither.

    Raises:
        InputError: a view is not in the batch, or the model does not give the layer.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), align=(deep_coral(), 1.0))

    References:
        Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", 2016.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        s, counts_s = layer_of(context, source, layer)
        t, counts_t = layer_of(context, target, layer)
        return coral(s, t, source_mask=counts_s, target_mask=counts_t), (memory, {})

    return Objective(no_state, apply)
