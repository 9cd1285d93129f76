"""Which source category a target category stands for, learned from the predictions of the source head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.objectives.task import softmax_cross_entropy
from jaxft.types import Array

STRENGTHS = (1e4, 3e3, 1e3, 3e2, 1e2, 3e1, 1e1, 3.0, 1.0, 0.3, 0.1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
_STEPS, _TOLERANCE = 200, 1e-4
_WIDEST = 7.0


def calibration_temperature(logits: Array, labels: Array) -> Array:
    """The temperature under which predictions are most likely true.

    T = argmin_T mean −log softmax(z/T)_y,  sought between e⁻⁷ and e⁷

    Args:
        logits: z, ``[rows, classes]``, of rows that the head was not trained on.
        labels: y, whole numbers ``[rows]``.

    Returns:
        A scalar: divide logits by it, here and on other rows.

    Example:
        >>> round(float(calibration_temperature(jnp.array([[8.0, 0.0]] * 4), jnp.array([0, 0, 0, 1]))), 3)
        7.282

    References:
        Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    # The loss is convex in 1/T, so its slope changes sign once.
    slope = jax.grad(lambda s: softmax_cross_entropy(s * logits, labels))

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        colder = slope(jnp.exp(middle)) < 0
        return jnp.where(colder, middle, low), jnp.where(colder, high, middle)

    low, high = jax.lax.fori_loop(0, 40, halve, (jnp.float32(-_WIDEST), jnp.float32(_WIDEST)))
    return jnp.exp(-(low + high) / 2)


def category_relationship(probabilities: Array, labels: Array, *, classes: int) -> Array:
    """What the source head says on average of the rows of each target category: the direct approach.

    p(y_s | y_t) = mean over rows x with label y_t of p(y_s | x)

    Args:
        probabilities: p(y_s | x), ``[rows, source classes]``: the softmax of the source head's logits over their
            temperature (see `calibration_temperature`), on training rows of the target.
        labels: y_t, whole numbers ``[rows]``.
        classes: target categories.

    Returns:
        ``[classes, source classes]``, each row of sum 1.

    Raises:
        InputError: the shapes do not fit together, or a category has no row.

    Example:
        >>> category_relationship(jnp.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), jnp.array([0, 0, 1]), classes=2)
        Array([[0.75, 0.25],
               [0.  , 1.  ]], dtype=float32)

    References:
        You et al., "Co-Tuning for Transfer Learning", 2020.
    """
    _check(probabilities, labels, classes)
    members = jax.nn.one_hot(labels, classes)
    return (members.T @ probabilities.astype(jnp.float32)) / jnp.sum(members, axis=0)[:, None]


def reverse_category_relationship(
    probabilities: Array,
    labels: Array,
    held_out_probabilities: Array,
    held_out_labels: Array,
    *,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
) -> Array:
    """The same relationship by Bayes' rule from a classifier of source predictions: the reverse approach.

    p(y_s | y_t) ∝ p(y_t | y_s) p(y_s),  p(y_t | y_s) = softmax(W_{y_s} / T),  p(y_s) = mean p(y_s | x)

    W is the multinomial logistic regression, without a constant, from the source head's probabilities to target
    categories, min ½‖W‖² + C Σ CE. The held-out rows choose C by accuracy, the first of the best, and T.

    Args:
        probabilities: calibrated p(y_s | x) of training rows of the target, ``[rows, source classes]``.
        labels: y_t of these, whole numbers ``[rows]``.
        held_out_probabilities: the same of other rows.
        held_out_labels: of these.
        classes: target categories.
        strengths: the candidates for C.

    Returns:
        ``[classes, source classes]``, each row of sum 1.

    Raises:
        InputError: the shapes do not fit together, or a category has no training row.

    Example:
        >>> p = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
        >>> y = jnp.array([0, 0, 1, 1])
        >>> found = reverse_category_relationship(p, y, p, y, classes=2)
        >>> bool(found[0, 0] > 0.9), bool(found[1, 1] > 0.9)
        (True, True)

    References:
        You et al., "Co-Tuning for Transfer Learning", 2020.
    """
    _check(probabilities, labels, classes)
    if held_out_probabilities.shape[1:] != probabilities.shape[1:] or not strengths:
        raise InputError(
            f"expected held-out probabilities [rows, {probabilities.shape[-1]}] and at least one strength, but got "
            f"{list(held_out_probabilities.shape)} and {len(strengths)}"
        )
    train, held_out = (p.astype(jnp.float32) for p in (probabilities, held_out_probabilities))
    kernels = jax.lax.map(lambda c: _regress(train, labels, classes, c), jnp.asarray(strengths, jnp.float32))
    right = jnp.mean(jnp.argmax(held_out @ kernels, axis=-1) == held_out_labels, axis=1)
    kernel = kernels[jnp.argmax(right)]
    given_source = jax.nn.softmax(kernel / calibration_temperature(held_out @ kernel, held_out_labels))
    joint = (given_source * jnp.mean(jnp.concatenate([train, held_out]), axis=0)[:, None]).T
    return joint / jnp.sum(joint, axis=1, keepdims=True)


def _regress(p: Array, labels: Array, classes: int, strength: Array) -> Array:
    """W ``[source classes, classes]`` of a multinomial logistic regression, by L-BFGS."""
    import optax  # heavy, and needed here alone

    def loss(kernel: Array) -> Array:
        return softmax_cross_entropy(p @ kernel, labels) + jnp.sum(kernel**2) / (2 * strength * p.shape[0])

    solver: Any = optax.lbfgs()
    start = jnp.zeros((p.shape[1], classes))

    def step(carry: Any) -> Any:
        kernel, state, count, _ = carry
        value, slope = optax.value_and_grad_from_state(loss)(kernel, state=state)
        move, state = solver.update(slope, state, kernel, value=value, grad=slope, value_fn=loss)
        return optax.apply_updates(kernel, move), state, count + 1, jnp.max(jnp.abs(slope))

    def unfinished(carry: Any) -> Array:
        return (carry[2] < _STEPS) & (carry[3] > _TOLERANCE)

    found: Array = jax.lax.while_loop(unfinished, step, (start, solver.init(start), 0, jnp.float32(jnp.inf)))[0]
    return found


def _check(probabilities: Array, labels: Array, classes: int) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise InputError(
            f"expected probabilities [rows, source classes] and labels [rows], but they are "
            f"{list(probabilities.shape)} and {list(labels.shape)}"
        )
    found = set(np.unique(np.asarray(labels)).tolist())
    if found != set(range(classes)):
        raise InputError(
            f"every target category from 0 to {classes - 1} needs a row, but the labels are {sorted(found)[:10]}; "
            "take more rows, or number the categories that there are"
        )
