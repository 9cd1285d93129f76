"""Class-conditional discrepancy: the domains brought together class by class, by the labels there are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import labelled, no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def class_mmd2(
    source: Array,
    target: Array,
    source_labels: Array,
    target_labels: Array,
    *,
    classes: int,
    source_mask: Array | None = None,
    target_mask: Array | None = None,
) -> Array:
    """Squared distance of the domains' means and of the means of each class, in float32.

    L = ‖mean s − mean t‖² + 1/|C| Σ_c ‖mean_{y=c} s − mean_{y=c} t‖²

    C are the classes with rows of both domains. It is the MMD² of a linear kernel, marginal and conditional.

    Args:
        source: s, ``[n, dim]``.
        target: t, ``[m, dim]``.
        source_labels: whole numbers ``[n]``; a number below zero is no class.
        target_labels: whole numbers ``[m]``, likewise: true labels, pseudo-labels, or −1 for unknown.
        classes: how many there are.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Raises:
        InputError: a domain is empty, features differ in size, or labels are not one for each row.

    Example:
        >>> x, y = jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [3.0]])
        >>> labels = jnp.array([0, 1])
        >>> float(class_mmd2(x, y, labels, labels, classes=2))
        2.0

    References:
        Long et al., "Transfer Feature Learning with Joint Distribution Adaptation", 2013.
    """
    check_domains(source, target, "the class-conditional discrepancy")
    for values, labels in ((source, source_labels), (target, target_labels)):
        if labels.shape != values.shape[:1]:
            raise InputError(f"expected a label for each of {len(values)} rows, but they are {list(labels.shape)}")
    counts_s, counts_t = rows_that_count(source, source_mask), rows_that_count(target, target_mask)

    def means(values: Array, labels: Array, counts: Array) -> tuple[Array, Array]:
        """Of all rows, then of each class; and which of these have rows."""
        kept = jnp.where(counts[:, None], values.astype(jnp.float32), 0.0)
        own = jnp.concatenate([jnp.ones((len(kept), 1)), jax.nn.one_hot(labels, classes)], axis=1)
        own = jnp.where(counts[:, None], own, 0.0)
        number = own.sum(0)
        return own.T @ kept / jnp.maximum(number, 1.0)[:, None], number > 0

    (s, has_s), (t, has_t) = means(source, source_labels, counts_s), means(target, target_labels, counts_t)
    both = has_s & has_t
    distances = jnp.where(both, jnp.sum((s - t) ** 2, axis=1), 0.0)
    return distances[0] + jnp.sum(distances[1:]) / jnp.maximum(jnp.sum(both[1:]), 1)


def confident_labels(logits: Array, *, top: int, mask: Array | None = None) -> Array:
    """For each class the so many rows that are most surely of it among those predicted as it; −1 for all others.

    Args:
        logits: ``[batch, classes]``.
        top: rows a class.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        Whole numbers ``[batch]``, constants to gradients.

    Raises:
        InputError: logits that are no matrix, or ``top`` below one.

    Example:
        >>> confident_labels(jnp.array([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]), top=1).tolist()
        [0, -1, 1]
    """
    if logits.ndim != 2 or isinstance(top, bool) or top < 1:
        raise InputError(
            f"expected logits [batch, classes] and rows a class from 1 up, got {list(logits.shape)}, {top!r}"
        )
    counts = rows_that_count(logits, mask)
    p = jax.nn.softmax(jnp.where(counts[:, None], jax.lax.stop_gradient(logits).astype(jnp.float32), 0.0))
    labels = jnp.argmax(p, axis=1)
    sure = jnp.where(counts, p.max(axis=1), -1.0)
    same = (labels[:, None] == labels[None, :]) & counts[:, None] & counts[None, :]
    earlier = jnp.arange(len(sure))[:, None] < jnp.arange(len(sure))[None, :]
    before = same & ((sure[:, None] > sure[None, :]) | ((sure[:, None] == sure[None, :]) & earlier))
    return jnp.where(counts & (before.sum(0) < top), labels, -1)


def class_mmd(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    known: str | None = None,
    top: int = 3,
) -> Objective:
    """Brings the classes of two domains together, the target's by its surest predictions and by a few labels.

    L = ‖mean s − mean t‖² + 1/|C| Σ_c ‖mean_c s − mean_c t‖², the target's classes by confident pseudo-labels

    With `jaxft.two_encoders` the domains may differ in the size of their features.

    Args:
        layer: "features", "logits", "probabilities", or the number of a hidden state.
        source: name of the view with labels.
        target: name of a view; its labels are not read.
        known: name of a view of target rows with labels, where there are a few.
        top: pseudo-labels a class and batch; the surest.

    Raises:
        InputError: a view is not in the batch, labels are missing, features differ in size, or the model does not give
            the layer or logits ``[batch, classes]``.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), classes=(ft.class_mmd(), 0.1))

    References:
        Long et al., "Transfer Feature Learning with Joint Distribution Adaptation", 2013. Yao et al., "Heterogeneous
        Domain Adaptation via Soft Transfer Network", 2019.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        (s, counts_s), (t, counts_t) = (layer_of(context, view, layer) for view in (source, target))
        logits = layer_of(context, target, "logits")[0]
        pseudo = confident_labels(logits, top=top, mask=counts_t)
        used = jnp.sum(pseudo >= 0)
        if known is not None:
            more, counts = layer_of(context, known, layer)
            t, counts_t = jnp.concatenate([t, more]), jnp.concatenate([counts_t, counts])
            pseudo = jnp.concatenate([pseudo, labelled(context.batch, known)["labels"]])
        labels = labelled(context.batch, source)["labels"]
        found = class_mmd2(s, t, labels, pseudo, classes=logits.shape[1], source_mask=counts_s, target_mask=counts_t)
        return found, (memory, {"pseudo_labels": used})

    return Objective(no_state, apply)


def transfer_labels(plan: Array, labels: Array, *, classes: int) -> Array:
    """Class probabilities of the target's rows: where a transport plan brings the labels of the source.

    p_jc = Σ_i π_ij [y_i = c] / Σ_i π_ij

    Args:
        plan: π, ``[n, m]``, such as that of `fused_gromov_wasserstein_plan` or the rows of `co_optimal_transport`.
        labels: y, whole numbers ``[n]``.
        classes: how many there are.

    Returns:
        ``[m, classes]``; equal probabilities where nothing is brought.

    Raises:
        InputError: labels that are not one for each row of the plan.

    Example:
        >>> transfer_labels(jnp.array([[0.5, 0.0], [0.0, 0.5]]), jnp.array([1, 0]), classes=2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]

    References:
        Redko et al., "CO-Optimal Transport", 2020.
    """
    if plan.ndim != 2 or labels.shape != plan.shape[:1]:
        raise InputError(
            f"expected a plan [n, m] and labels [n], but they are {list(plan.shape)} and {list(labels.shape)}"
        )
    brought = plan.T @ jax.nn.one_hot(labels, classes)
    total = brought.sum(1, keepdims=True)
    return jnp.where(total > 0, brought / jnp.where(total > 0, total, 1.0), 1 / classes)
