"""Decoupled knowledge distillation: what is said of the label, and what of the other classes, apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.knowledge_distillation import of_predictions
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.objectives.teachers import Teacher, positive
from jaxft.types import Array, Objective


def dkd(
    student: Array,
    teacher: Array,
    labels: Array,
    *,
    alpha: float | Array = 1.0,
    beta: float | Array = 8.0,
    temperature: float | Array = 4.0,
    mask: Array | None = None,
) -> Array:
    """Distillation of the label against the rest, and of the rest among themselves, in float32.

    L = T² (α TCKD + β NCKD),  p = softmax(z / T)
    TCKD = mean KL((p_y, 1−p_y) of the teacher ‖ that of the student),  NCKD = mean KL(p̂_t ‖ p̂_s),  p̂ = p over c ≠ y

    With α = 1 and β = 1 − p_y of the teacher it is `hinton`.

    Args:
        student: logits z_s, ``[batch, classes]``.
        teacher: logits z_t, of the same shape, without gradient.
        labels: y, integers ``[batch]``; a row of -100 does not count.
        alpha: α; may be traced.
        beta: β; may be traced.
        temperature: T above 0; may be traced.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar from 0 up; 0 when student and teacher agree, or nothing counts; NaN for a label that is no class.

    Raises:
        InputError: the logits are no matrices of one shape, or labels or mask do not fit, or T is not above 0.

    Example:
        >>> z = jnp.array([[2.0, 0.0, 1.0]])
        >>> float(dkd(z, z, jnp.array([0]))), round(float(dkd(jnp.zeros((1, 3)), z, jnp.array([0]), beta=0.0)), 3)
        (0.0, 0.256)

    References:
        Zhao et al., "Decoupled Knowledge Distillation", 2022.
    """
    positive(temperature, "the temperature of distillation")
    if student.ndim != 2 or student.shape != teacher.shape or labels.shape != student.shape[:1]:
        raise InputError(
            "dkd expects logits [batch, classes] of student and teacher and labels [batch], but they are "
            f"{list(student.shape)}, {list(teacher.shape)} and {list(labels.shape)}"
        )
    counts = rows_that_count(student, mask) & (labels != -100)
    is_label = labels[:, None] == jnp.arange(student.shape[1])

    def parts(z: Array) -> tuple[Array, Array, Array]:
        """Log-probabilities of the label, of all others together, and of each other among themselves."""
        z = jnp.where(counts[:, None], z.astype(jnp.float32), 0.0) / temperature
        others = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, z), axis=1)
        label = jnp.sum(jnp.where(is_label, z, 0.0), axis=1)
        whole = jnp.logaddexp(label, others)
        return label - whole, others - whole, jnp.where(is_label, 0.0, z - others[:, None])

    label_s, rest_s, other_s = parts(student)
    label_t, rest_t, other_t = parts(jax.lax.stop_gradient(teacher))
    tckd = jnp.exp(label_t) * (label_t - label_s) + jnp.exp(rest_t) * (rest_t - rest_s)
    nckd = jnp.sum(jnp.where(is_label, 0.0, jnp.exp(other_t) * (other_t - other_s)), axis=1)
    known = jnp.any(is_label, axis=1)
    rows = jnp.where(known, alpha * tckd + beta * nckd, jnp.nan)
    return temperature**2 * mean_of_rows(rows, counts)


def decoupled_distillation(
    teacher: Teacher,
    view: str | None = None,
    *,
    alpha: float | Array = 1.0,
    beta: float | Array = 8.0,
    temperature: float | Array = 4.0,
) -> Objective:
    """Distils what a teacher says of the label and what it says of the other classes with weights of their own: DKD.

    L = T² (α TCKD + β NCKD), as in `jaxft.objectives.dkd`

    The paper warms its weight up over the first 20 epochs: give the term a schedule.

    Args:
        teacher: a model, an `ensemble`, or None for the columns that `distil.remember` wrote.
        view: name of the labelled part of the batch, ``labels [batch]``.
        alpha: α, of the label against the rest; may be traced.
        beta: β, of the rest among themselves; may be traced.
        temperature: T above 0; may be traced.

    Raises:
        InputError: T is not above 0; the teacher is none; the view has no labels; other classes.

    Example:
        >>> import jaxft as ft
        >>> import optax
        >>> teacher = ft.small_mlp(4, num_labels=3, hidden=(50,))
        >>> warmed = (ft.decoupled_distillation(teacher), optax.linear_schedule(0.0, 1.0, 200))
        >>> objective = ft.combine(task=ft.cross_entropy(), soft=warmed)

    References:
        Zhao et al., "Decoupled Knowledge Distillation", 2022.
    """
    positive(temperature, "the temperature of distillation")

    def loss(student: Array, target: Array, labels: Array | None, counts: Array) -> Array:
        if labels is None:
            raise InputError(
                "decoupled_distillation reads labels, but the view has none; knowledge_distillation does not"
            )
        return dkd(student, target, labels, alpha=alpha, beta=beta, temperature=temperature, mask=counts)

    return of_predictions(teacher, view, loss, temperature)
