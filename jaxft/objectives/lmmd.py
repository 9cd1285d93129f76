"""Local maximum mean discrepancy: the classes of two domains brought together one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.distances import squared_distances
from jaxft.objectives.kernels import KERNELS, bandwidths, check_domains, gaussian
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import labelled, no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def lmmd2(
    source: Array,
    target: Array,
    source_labels: Array,
    target_probabilities: Array,
    *,
    scales: Array | Sequence[float] | None = None,
    kernels: int = KERNELS,
    bandwidth: str = "median",
    source_mask: Array | None = None,
    target_mask: Array | None = None,
) -> Array:
    """Mean over the classes of their squared discrepancies, rows weighted by how much they are of a class, in float32.

    L = 1/|C| Σ_c ‖Σ_i w^s_ic φ(s_i) − Σ_j w^t_jc φ(t_j)‖²,  w^s_ic = [y_i = c] / Σ_i [y_i = c]
    and w^t_jc = p_jc / Σ_j p_jc

    C are the classes that the batch of the source has, and that the target gives any probability.

    Args:
        source: s, ``[n, dim]``.
        target: t, ``[m, dim]``.
        source_labels: y, integers ``[n]``; those below zero are of no class.
        target_probabilities: p, ``[m, classes]``; gradients do not go through them.
        scales: γ of the kernel, as in `mmd2`.
        kernels: as in `mmd2`.
        bandwidth: as in `mmd2`.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Returns:
        A scalar, never negative; zero where no class is in both.

    Raises:
        InputError: a domain is empty, or shapes do not fit together.

    Example:
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [1.0]])
        >>> round(float(lmmd2(x, y, jnp.array([0, 1]), jnp.eye(2)[::-1], scales=[1.0])), 5)
        1.26424

    References:
        Zhu et al., "Deep Subdomain Adaptation Network for Image Classification", 2020.
    """
    check_domains(source, target, "the local discrepancy")
    if source_labels.shape != source.shape[:1] or target_probabilities.shape[:-1] != target.shape[:1]:
        raise InputError(
            "the local discrepancy expects a label for each row of the source and probabilities [batch, classes] of "
            f"the target, but got {list(source_labels.shape)} for {source.shape[0]} rows and "
            f"{list(target_probabilities.shape)} for {target.shape[0]}"
        )
    counts_s, counts_t = rows_that_count(source, source_mask), rows_that_count(target, target_mask)
    s, t = jnp.where(counts_s[:, None], source, 0.0), jnp.where(counts_t[:, None], target, 0.0)
    if scales is None:
        scales = bandwidths(s, t, kernels=kernels, of=bandwidth, source_mask=counts_s, target_mask=counts_t)
    p = jax.lax.stop_gradient(target_probabilities.astype(jnp.float32))
    of_s = jnp.where(counts_s[:, None], jax.nn.one_hot(source_labels, p.shape[-1]), 0.0)
    of_t = jnp.where(counts_t[:, None], p, 0.0)
    present = (of_s.sum(0) > 0) & (of_t.sum(0) > 0)
    w_s, w_t = (of / jnp.where(present, of.sum(0), 1.0) for of in (of_s, of_t))

    def mean_kernel(x: Array, y: Array, w: Array, v: Array) -> Array:
        return jnp.sum(w * (gaussian(squared_distances(x, y), scales) @ v), axis=0)

    each = mean_kernel(s, s, w_s, w_s) + mean_kernel(t, t, w_t, w_t) - 2 * mean_kernel(s, t, w_s, w_t)
    return jnp.sum(jnp.where(present, each, 0.0)) / jnp.maximum(jnp.sum(present), 1)


def lmmd(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    scales: Array | Sequence[float] | None = None,
    kernels: int = KERNELS,
    bandwidth: str = "median",
) -> Objective:
    """Brings each class of the target, as the model predicts it, to that class of the source: subdomain adaptation.

    L = LMMD²(layer of the source, layer of the target; labels of the source, predictions of the target)

    Args:
        layer: "features", "logits", "probabilities", or the number of a hidden state.
        source: name of the view with labels.
        target: name of a view; its labels are not read.
        scales: as in `lmmd2`.
        kernels: as in `lmmd2`.
        bandwidth: as in `lmmd2`.

    Raises:
        InputError: as `lmmd2`; a view is not in the batch, the source has no labels, or the model does not give the
            layer or logits ``[batch, classes]``.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), align=(lmmd(), 0.5))

    References:
        Zhu et al., "Deep Subdomain Adaptation Network for Image Classification", 2020.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        labels = labelled(context.batch, source)["labels"]
        s, counts_s = layer_of(context, source, layer)
        t, counts_t = layer_of(context, target, layer)
        p, _ = layer_of(context, target, "probabilities")
        found = lmmd2(
            s,
            t,
            labels,
            p,
            scales=scales,
            kernels=kernels,
            bandwidth=bandwidth,
            source_mask=counts_s,
            target_mask=counts_t,
        )
        return found, (memory, {})

    return Objective(no_state, apply)
