"""DIST: predictions that are correlated with a teacher's, within each row and within each class."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.knowledge_distillation import of_predictions
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.objectives.teachers import Teacher, positive
from jaxft.types import Array, Objective


def dist(
    student: Array,
    teacher: Array,
    *,
    beta: float | Array = 1.0,
    gamma: float | Array = 1.0,
    temperature: float | Array = 1.0,
    mask: Array | None = None,
) -> Array:
    """How little the predictions of a student and a teacher are correlated, in float32.

    L = T² (β mean_rows (1 − ρ(p_i·, q_i·)) + γ mean_classes (1 − ρ(p_·c, q_·c))),  p = softmax(z_s / T), q of z_t

    ρ is Pearson's correlation, between the classes of a row and, within a class, between the rows of the batch. A row
    or class without variance is correlated with nothing.

    Args:
        student: logits z_s, ``[batch, classes]``.
        teacher: logits z_t, of the same shape, without gradient.
        beta: β; may be traced.
        gamma: γ; may be traced.
        temperature: T above 0; may be traced. The factor T² is of the authors' code.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar from 0 to 2 T² (β + γ); 0 when student and teacher agree in rows and classes that vary.

    Raises:
        InputError: the logits are no matrices of one shape, the mask does not fit, or T is not above 0.

    Example:
        >>> z = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]])
        >>> round(abs(float(dist(z, z))), 5), round(float(dist(z[:, ::-1], z, gamma=0.0)), 3)
        (0.0, 1.316)

    References:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022.
    """
    positive(temperature, "the temperature of distillation")
    if student.ndim != 2 or student.shape != teacher.shape:
        raise InputError(
            f"dist expects logits [batch, classes] of one shape, but they are {list(student.shape)} and "
            f"{list(teacher.shape)}"
        )
    counts = rows_that_count(student, mask)
    p, q = (
        jax.nn.softmax(jnp.where(counts[:, None], z.astype(jnp.float32), 0.0) / temperature)
        for z in (student, jax.lax.stop_gradient(teacher))
    )
    everything = jnp.ones(p.shape, bool)
    between = mean_of_rows(1 - _correlation(p, q, everything), counts)
    within = jnp.mean(1 - _correlation(p.T, q.T, everything.T & counts))
    return temperature**2 * (beta * between + gamma * jnp.where(jnp.any(counts), within, 0.0))


def _correlation(p: Array, q: Array, counts: Array) -> Array:
    """Pearson's ρ of each row of two matrices, over the entries that count."""
    number = jnp.maximum(jnp.sum(counts, axis=1, keepdims=True), 1)
    p, q = (
        jnp.where(counts, x - jnp.sum(jnp.where(counts, x, 0.0), axis=1, keepdims=True) / number, 0.0) for x in (p, q)
    )
    squares = jnp.sum(p**2, axis=1) * jnp.sum(q**2, axis=1)
    varied = squares > 1e-16
    return jnp.where(varied, jnp.sum(p * q, axis=1) / jnp.sqrt(jnp.where(varied, squares, 1.0)), 0.0)


def correlation_distillation(
    teacher: Teacher,
    view: str | None = None,
    *,
    beta: float | Array = 1.0,
    gamma: float | Array = 1.0,
    temperature: float | Array = 1.0,
) -> Objective:
    """Holds predictions correlated with the teacher's, not equal to them: DIST.

    L = T² (β mean_rows (1 − ρ) + γ mean_classes (1 − ρ)), as in `jaxft.objectives.dist`

    Args:
        teacher: a model, an `ensemble`, or None for the columns that `distil.remember` wrote.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count.
        beta: β, of the correlation between the classes of a row; may be traced.
        gamma: γ, of that between the rows within a class; may be traced.
        temperature: T above 0; may be traced.

    Raises:
        InputError: T is not above 0; the teacher is none; other classes; predictions of tokens.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.small_mlp(4, num_labels=3, hidden=(50,))
        >>> objective = ft.combine(task=ft.cross_entropy(), soft=(ft.correlation_distillation(teacher), 2.0))

    References:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022.
    """
    positive(temperature, "the temperature of distillation")

    def loss(student: Array, target: Array, labels: Array | None, counts: Array) -> Array:
        del labels
        return dist(student, target, beta=beta, gamma=gamma, temperature=temperature, mask=counts)

    return of_predictions(teacher, view, loss, temperature)
