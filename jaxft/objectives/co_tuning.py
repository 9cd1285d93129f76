"""Co-Tuning: the head of the source task keeps learning, from labels that the target's are translated to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import features_of, mean_of_rows, rows_that_count
from jaxft.objectives.task import labelled
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective


def soft_cross_entropy(logits: Array, probabilities: Array, *, mask: Array | None = None) -> Array:
    """Mean cross-entropy with a distribution in place of a label, in float32.

    L = mean −Σ_c p_c log softmax(z)_c

    Args:
        logits: z, ``[batch, classes]``.
        probabilities: p, of the same shape.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar; zero when nothing counts.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> soft_cross_entropy(jnp.zeros((1, 2)), jnp.array([[0.3, 0.7]]))
        Array(0.6931472, dtype=float32)
    """
    if logits.ndim != 2 or logits.shape != probabilities.shape:
        raise InputError(
            f"expected logits and probabilities [batch, classes], but they are {list(logits.shape)} and "
            f"{list(probabilities.shape)}"
        )
    counts = rows_that_count(logits, mask)
    # What does not count is set aside before anything is computed of it: even its NaN must not reach a gradient.
    log_q = jax.nn.log_softmax(jnp.where(counts[:, None], logits.astype(jnp.float32), 0.0))
    p = jnp.where(counts[:, None], probabilities.astype(jnp.float32), 0.0)
    return mean_of_rows(-jnp.sum(p * log_q, axis=1), counts)


def co_tuning(
    view: str | None = None,
    *,
    head: Mapping[str, Array],
    relationship: Array,
    weight: float | Array = 2.3,
    ignore_index: int = -100,
) -> Objective:
    """Keeps tuning the head of the source task, on the source labels that a target label stands for.

    L = λ mean −Σ_{y_s} p(y_s | y_t) log softmax(features W + b)_{y_s}

    The cross-entropy of the target labels is the task, a term beside this one. The source head learns too, from the
    pretrained W and b: it is among the weights of the objective, and no longer needed after training.

    Args:
        view: name of the labelled part of the batch: ``labels [batch]`` and, where some rows must not count, ``mask``.
        head: ``{"kernel": W [dim, source classes], "bias": b [source classes]}``, or the kernel alone.
        relationship: p(y_s | y_t), ``[target classes, source classes]``, as from `category_relationship`.
        weight: λ; may be traced.
        ignore_index: label of a row to leave out.

    Raises:
        InputError: the head is no such dict, or it and the relationship or features do not fit together; the view is
            not in the batch or has no labels of whole rows; the model gives no features.

    Example:
        >>> from jaxft.types import Outputs
        >>> batch = {"labels": jnp.array([0, 1])}
        >>> context = Context(lambda view=None: Outputs(features=jnp.eye(2)), batch, (), 0, jax.random.key(0))
        >>> objective = co_tuning(head={"kernel": jnp.eye(2)}, relationship=jnp.eye(2), weight=1.0)
        >>> frozen, weights, memory = objective.init(jax.random.key(0), context)
        >>> round(float(objective.apply(frozen, weights, memory, context)[0]), 5)
        0.31326

    References:
        You et al., "Co-Tuning for Transfer Learning", 2020.
    """
    if not isinstance(head, Mapping) or "kernel" not in head or head.keys() - {"kernel", "bias"}:
        named = sorted(head) if isinstance(head, Mapping) else type(head).__name__
        raise InputError(f"co_tuning expects the source head as {{'kernel': …, 'bias': …}}, but got {named}")
    source = head["kernel"].shape[-1]
    if jnp.ndim(relationship) != 2 or relationship.shape[1] != source:
        raise InputError(
            f"co_tuning expects p(y_s | y_t) [target classes, {source}] for a head of {source} outputs, "
            f"but got {list(jnp.shape(relationship))}"
        )

    def init(key: Key, context: Context) -> tuple[Array, dict[str, Array], tuple[()]]:
        del key, context
        # Copies: the weights are donated with the state, and the head is the caller's.
        return jnp.asarray(relationship), {name: jnp.copy(head[name]) for name in head}, ()

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        labels = labelled(context.batch, view)["labels"]
        features, mask = features_of(context, view, "co_tuning")
        if labels.shape != features.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise InputError(
                f"co_tuning expects one whole number as label of each of {features.shape[0]} rows, "
                f"but they are {labels.dtype} {list(labels.shape)}"
            )
        if features.shape[-1] != weights["kernel"].shape[0]:
            raise InputError(
                f"the source head reads {weights['kernel'].shape[0]} features, but the model gives {features.shape[-1]}"
            )
        counts = rows_that_count(labels, mask) & (labels != ignore_index)
        logits = features @ weights["kernel"] + weights.get("bias", 0.0)
        known = (labels >= 0) & (labels < frozen.shape[0])
        targets = jnp.where(known[:, None], frozen[jnp.where(known, labels, 0)], jnp.nan)
        return weight * soft_cross_entropy(logits, targets, mask=counts), (memory, {})

    return Objective(init, apply)
