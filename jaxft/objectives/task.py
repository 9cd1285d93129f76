"""Supervised objectives: what the labels say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.types import Array, Batch, Context, Key, Memory, Metrics, Objective


def softmax_cross_entropy(
    logits: Array,
    labels: Array,
    *,
    mask: Array | None = None,
    label_smoothing: float | Array = 0.0,
    class_weights: Array | None = None,
    row_weights: Array | None = None,
    ignore_index: int = -100,
) -> Array:
    """Mean cross-entropy over the labels that count, in float32.

    L = (1−ε) Σ v w_y (−log p_y) / Σ v w_y  +  ε/C Σ v Σ_c w_c (−log p_c) / Σ v w_y

    Args:
        logits: ``[..., classes]``.
        labels: integers ``[...]``; those equal to ``ignore_index`` do not count.
        mask: bools ``[...]`` or over the leading axes of the labels; False leaves a row or token out.
        label_smoothing: ε in [0, 1].
        class_weights: w, ``[classes]``; ones when not given.
        row_weights: v, ``[...]`` or over the leading axes of the labels, such as importance weights; ones when not
            given.
        ignore_index: label that marks what to leave out.

    Returns:
        A scalar; zero when nothing counts, NaN when a label that counts is none of the classes.

    Raises:
        InputError: shapes do not fit together, or the labels are not whole numbers.

    Example:
        >>> softmax_cross_entropy(jnp.zeros((2, 4)), jnp.array([1, -100]))
        Array(1.3862944, dtype=float32)

    References:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016 (label smoothing).
    """
    if logits.shape[:-1] != labels.shape:
        raise InputError(
            f"cross-entropy expects logits [..., classes] and labels [...], but logits are {list(logits.shape)} "
            f"and labels {list(labels.shape)}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"cross-entropy expects whole numbers as labels, but they are {labels.dtype}; cast them")
    classes = logits.shape[-1]
    w = jnp.ones(classes) if class_weights is None else jnp.asarray(class_weights, jnp.float32)
    if w.shape != (classes,):
        raise InputError(f"cross-entropy expects one weight for each of {classes} classes, but got {list(w.shape)}")
    counts = which_count(labels, mask, ignore_index)
    v = jnp.ones(labels.shape) if row_weights is None else spread(row_weights, labels.shape).astype(jnp.float32)
    w_y = jnp.where(counts, v * w[jnp.where(counts, labels, 0)], 0.0)
    losses = negative_log_likelihood(logits, labels, counts) * w_y
    if not (isinstance(label_smoothing, (int, float)) and label_smoothing == 0):  # 0 · ∞ where a class is ruled out
        epsilon = jnp.asarray(label_smoothing, jnp.float32)
        log_p = jax.nn.log_softmax(jnp.where(counts[..., None], logits.astype(jnp.float32), 0.0))
        losses = (1 - epsilon) * losses - epsilon * jnp.where(counts, v * (log_p @ w), 0.0) / classes
    total, weight = jnp.sum(losses), jnp.sum(w_y)
    # Nothing counts where the weight is zero; a weight that is not a number stays none.
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), 0.0 * weight)


def negative_log_likelihood(logits: Array, labels: Array, counts: Array) -> Array:
    """Minus the log-probability of each label, in float32, in no more memory than the logits themselves.

    l = log Σ_c exp z_c − z_y

    Args:
        logits: z, ``[..., classes]``.
        labels: y, integers ``[...]``.
        counts: bools ``[...]``; the value is zero where they are False, and NaN where a label is none of the classes.

    Example:
        >>> negative_log_likelihood(jnp.zeros((2, 4)), jnp.array([3, -100]), jnp.array([True, False]))
        Array([1.3862944, 0.       ], dtype=float32)
    """
    classes = logits.shape[-1]
    # What does not count is set aside before anything is computed of it: even its NaN must not reach a gradient.
    z = jnp.where(counts[..., None], logits.astype(jnp.float32), 0.0)
    z = z - jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
    # A comparison fuses with the sum, forward and backward; a gather's gradient is an array of the size of the logits.
    is_label = labels[..., None] == jnp.arange(classes)
    losses = jnp.log(jnp.sum(jnp.exp(z), axis=-1)) - jnp.sum(jnp.where(is_label, z, 0.0), axis=-1)
    known = (labels >= 0) & (labels < classes)
    return jnp.where(counts, jnp.where(known, losses, jnp.nan), 0.0)


def cross_entropy(
    view: str | None = None,
    *,
    label_smoothing: float | Array = 0.0,
    class_weights: Any = None,
    ignore_index: int = -100,
) -> Objective:
    """Cross-entropy of the model's logits with the labels of a view.

    The view holds ``labels`` and, where some rows or tokens must not count, ``mask``; a column ``weight``, numbers
    from 0 up, weighs the rows in the mean, as importance weights do.

    Args:
        view: name of the labelled part of the batch; None for a batch without parts.
        label_smoothing: ε in [0, 1]; may be traced.
        class_weights: one weight a class.
        ignore_index: label that marks what to leave out.

    Raises:
        InputError: the view is not in the batch or has no labels.

    Example:
        >>> from jaxft.types import Context, Outputs
        >>> batch = {"labels": jnp.array([0, 1])}
        >>> context = Context(lambda view=None: Outputs(logits=jnp.zeros((2, 2))), batch, (), 0, jax.random.key(0))
        >>> loss, (memory, metrics) = cross_entropy().apply((), (), (), context)
        >>> round(float(loss), 4), round(float(metrics["accuracy"]), 4)
        (0.6931, 0.5)
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        part = labelled(context.batch, view)
        logits, labels, mask = context.forward(view).logits, part["labels"], part.get("mask")
        weights = part.get("weight")
        loss = softmax_cross_entropy(
            logits,
            labels,
            mask=mask,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            row_weights=None if weights is None else jnp.where(weights >= 0, weights, jnp.nan),
            ignore_index=ignore_index,
        )
        counts = which_count(labels, mask, ignore_index)
        return loss, (memory, {"accuracy": accuracy(logits, labels, counts)})

    return Objective(no_state, apply)


def mean_squared_error(view: str | None = None) -> Objective:
    """Mean squared error of the model's logits to real-valued labels.

    L = mean (z − y)²

    Args:
        view: name of the labelled part of the batch; labels are ``[batch]`` for one output, or ``[batch, outputs]``.

    Raises:
        InputError: the view is not in the batch or has no labels, or labels and logits differ in shape.

    Example:
        >>> from jaxft.types import Context, Outputs
        >>> batch = {"labels": jnp.array([1.0, 3.0])}
        >>> context = Context(lambda view=None: Outputs(logits=jnp.zeros((2, 1))), batch, (), 0, jax.random.key(0))
        >>> mean_squared_error().apply((), (), (), context)[0]
        Array(5., dtype=float32)
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        part = labelled(context.batch, view)
        z, y = context.forward(view).logits.astype(jnp.float32), jnp.asarray(part["labels"], jnp.float32)
        z = z[..., 0] if z.shape == (*y.shape, 1) else z
        if z.shape != y.shape:
            raise InputError(
                f"the mean squared error expects labels of the shape of the logits, {list(z.shape)}, "
                f"but the labels are {list(y.shape)}"
            )
        counts = over(part.get("mask", jnp.ones(z.shape[:1], bool)), z.shape)
        total = jnp.sum((jnp.where(counts, z, 0.0) - jnp.where(counts, y, 0.0)) ** 2)
        return total / jnp.maximum(jnp.sum(counts), 1), (memory, {})

    return Objective(no_state, apply)


def which_count(labels: Array, mask: Array | None, ignore_index: int) -> Array:
    """Which labels count, as bools of their shape; a mask may cover their leading axes only."""
    counts = labels != ignore_index
    return counts if mask is None else counts & over(mask, labels.shape)


def accuracy(logits: Array, labels: Array, counts: Array) -> Array:
    """The share of the labels that count which have the largest logit."""
    return jnp.sum(counts & (jnp.argmax(logits, -1) == labels)) / jnp.maximum(jnp.sum(counts), 1)


def over(mask: Array, shape: tuple[int, ...]) -> Array:
    """A mask over the leading axes of a shape, as bools of that shape."""
    return spread(mask, shape).astype(bool)


def spread(values: Array, shape: tuple[int, ...]) -> Array:
    """Values over the leading axes of a shape, in that shape."""
    if values.shape != shape[: values.ndim]:
        raise InputError(
            "masks and weights are over the leading axes of the labels, "
            f"{list(shape)}, but these are {list(values.shape)}"
        )
    return jnp.broadcast_to(jnp.expand_dims(values, range(values.ndim, len(shape))), shape)


def part_of(batch: Batch, view: str | None) -> Batch:
    """Returns the named view, or the whole batch when no view is named."""
    if view is None:
        return batch
    if view not in batch:
        raise InputError(f"the objective reads the view {view!r}, but the batch has {sorted(batch)}")
    part = batch[view]
    if not isinstance(part, Mapping):
        raise InputError(f"{view!r} is one array of the batch, not a view, a dict of arrays; leave the view out")
    return part


def labelled(batch: Batch, view: str | None) -> Batch:
    """Returns the part of the batch that an objective learns from, and checks that it has labels."""
    part = part_of(batch, view)
    if "labels" not in part:
        hint = "name one of its views" if any(isinstance(value, dict) for value in part.values()) else "add them"
        raise InputError(f"the objective needs labels, but the batch has only {sorted(part)}; {hint}")
    return part


def no_state(key: Key, context: Context) -> tuple[Any, Any, Any]:
    """The init of an objective that has nothing of its own."""
    del key, context
    return (), (), ()
