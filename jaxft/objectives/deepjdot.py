"""DeepJDOT: features and labels of the source are transported onto the target together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.distances import squared_distances
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import labelled, no_state
from jaxft.objectives.transport import sinkhorn_plan
from jaxft.types import Array, Context, Memory, Metrics, Objective


def label_cost(labels: Array, logits: Array, *, mask: Array | None = None, target_mask: Array | None = None) -> Array:
    """Cross-entropy of every source label with every target prediction, in float32.

    C_ij = −log p_j(y_i)

    Args:
        labels: y, whole numbers ``[n]``.
        logits: of p, ``[m, classes]``.
        mask: bools ``[n]``; a row that is left out costs nothing.
        target_mask: bools ``[m]``, likewise.

    Returns:
        ``[n, m]``; NaN where a label that counts is none of the classes.

    Raises:
        InputError: labels that are not whole numbers ``[n]``, logits that are not ``[m, classes]``.

    Example:
        >>> label_cost(jnp.array([0, 1]), jnp.log(jnp.array([[0.25, 0.75]]))).round(4)
        Array([[1.3863],
               [0.2877]], dtype=float32)
    """
    if labels.ndim != 1 or not jnp.issubdtype(labels.dtype, jnp.integer) or logits.ndim != 2:
        raise InputError(
            "a cost of labels expects whole numbers [rows] and logits [rows, classes], but they are "
            f"{labels.dtype} {list(labels.shape)} and {list(logits.shape)}"
        )
    ours, theirs = rows_that_count(labels, mask), rows_that_count(logits, target_mask)
    log_p = jax.nn.log_softmax(jnp.where(theirs[:, None], logits.astype(jnp.float32), 0.0))
    classes = logits.shape[1]
    # A product with one-hot rows would be 0 · ∞ where a class is ruled out.
    cost = -log_p[:, jnp.clip(labels, 0, classes - 1)].T
    known = (labels >= 0) & (labels < classes)
    return jnp.where(ours[:, None] & theirs, jnp.where(known[:, None], cost, jnp.nan), 0.0)


def deepjdot(
    source: str = "source",
    target: str = "target",
    *,
    alpha: float | Array = 1e-3,
    label_weight: float | Array = 1e-4,
    epsilon: float | Array = 0.05,
    layer: Layer = "features",
) -> Objective:
    """The cost of transporting the source's features and labels onto the target's features and predictions.

    L = Σ_ij γ_ij C_ij,  C_ij = α ‖g(s_i) − g(t_j)‖² + λ_t (−log p_{t_j}(y_i)),  γ = optimal plan of C, held still

    The cross-entropy of the source is the task, a term beside this one. The plan is of the batch: one large enough to
    have all classes in both domains is meant. The paper solves for it without entropy; a small ε comes near.

    Args:
        source: name of the labelled part of the batch; rows that its ``mask`` leaves out, and those with the
            label −100, take no part.
        target: name of the other part; its labels, if it has any, are not read.
        alpha: α, as in the paper for digits; may be traced.
        label_weight: λ_t; may be traced.
        epsilon: entropy of the plan in units of the mean cost, of `sinkhorn_plan`; may be traced.
        layer: g: "features", "logits", "probabilities" or the number of a hidden state.

    Raises:
        InputError: a view that is not in the batch, a source without labels, a layer that the model does not give.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), transport=ft.deepjdot("source", "target"))

    References:
        Damodaran et al., "DeepJDOT: Deep Joint Distribution Optimal Transport for Unsupervised Domain Adaptation",
        2018.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        labels = labelled(context.batch, source)["labels"]
        (g_s, ours), (g_t, theirs) = (layer_of(context, view, layer) for view in (source, target))
        ours = ours & (labels != -100)
        distances = squared_distances(g_s, g_t, source_mask=ours, target_mask=theirs)
        mistakes = label_cost(labels, context.forward(target).logits, mask=ours, target_mask=theirs)
        cost = alpha * distances + label_weight * mistakes
        plan = sinkhorn_plan(cost, epsilon=epsilon, source_weights=ours, target_weights=theirs)
        metrics = {"features": jnp.sum(plan * distances), "labels": jnp.sum(plan * mistakes)}
        return jnp.sum(plan * cost), (memory, metrics)

    return Objective(no_state, apply)
