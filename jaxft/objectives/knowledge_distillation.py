"""Knowledge distillation: a student predicts what a teacher predicts, softened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxft.objectives.kl import kl_divergence
from jaxft.objectives.task import part_of
from jaxft.objectives.teachers import Teacher, check_classes, only_teacher, positive, rows_compared, teacher_logits
from jaxft.types import Array, Context, Memory, Metrics, Objective


def hinton(student: Array, teacher: Array, *, temperature: float | Array = 4.0, mask: Array | None = None) -> Array:
    """Divergence of a student's softened prediction from a teacher's, in float32; no gradient reaches the teacher.

    L = T² mean KL(softmax(z_t / T) ‖ softmax(z_s / T))

    T² makes up for the slopes, which fall with it, so that the weight of the term holds for every temperature.

    Args:
        student: logits z_s, ``[…, classes]``.
        teacher: logits z_t, of the same shape.
        temperature: T above 0; may be traced.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        A scalar from 0 up; 0 when student and teacher agree, or nothing counts.

    Raises:
        InputError: the shapes differ, there is one class alone, the mask does not fit, or T is not above 0.

    Example:
        >>> import jax.numpy as jnp
        >>> z = jnp.array([[2.0, 0.0]])
        >>> round(float(hinton(jnp.zeros((1, 2)), z, temperature=2.0)), 3), float(hinton(z, z))
        (0.444, 0.0)

    References:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """
    positive(temperature, "the temperature of distillation")
    check_classes(student, teacher)
    teacher = jax.lax.stop_gradient(teacher)
    return temperature**2 * kl_divergence(teacher / temperature, student / temperature, mask=mask)


def knowledge_distillation(teacher: Teacher, view: str | None = None, *, temperature: float | Array = 4.0) -> Objective:
    """Holds the student's predictions near the teacher's softened ones.

    L = T² mean KL(softmax(z_t / T) ‖ softmax(z_s / T))

    The paper's loss is (1−a)·CE + a·L: ``combine(task=(cross_entropy(), 0.5), soft=(knowledge_distillation(teacher),
    0.5))``. The teacher runs as in evaluation, its params frozen arrays of the step, placed by the rules of the
    student's. In a text every token counts that is no padding and, where there are labels of tokens, has one.

    Args:
        teacher: a model, an `ensemble`, or None for the columns that `distil.remember` wrote.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count.
        temperature: T above 0; may be traced.

    Raises:
        InputError: T is not above 0; the teacher is none; it predicts other classes or another vocabulary.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.small_mlp(4, num_labels=3, hidden=(50,))
        >>> soft = (ft.knowledge_distillation(teacher, temperature=2.0), 0.9)
        >>> objective = ft.combine(task=(ft.cross_entropy(), 0.1), soft=soft)

    References:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015. Furlanello et al., "Born Again Neural
        Networks", 2018 (the teacher is an earlier self).
    """
    positive(temperature, "the temperature of distillation")

    def loss(student: Array, target: Array, labels: Array | None, counts: Array) -> Array:
        del labels
        return hinton(student, target, temperature=temperature, mask=counts)

    return of_predictions(teacher, view, loss, temperature)


def of_predictions(
    teacher: Teacher,
    view: str | None,
    loss: Callable[[Array, Array, Array | None, Array], Array],
    temperature: float | Array = 1.0,
) -> Objective:
    """An objective of the logits of student and teacher, and of the labels where the view has any.

    Args:
        teacher: of `knowledge_distillation`.
        view: name of the part of the batch.
        loss: ``loss(student, teacher, labels, counts)``, a scalar.
        temperature: at which an ensemble is averaged.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        student, target = teacher_logits(teacher, frozen, context, view, temperature)
        part = part_of(context.batch, view)
        return loss(student, target, part.get("labels"), rows_compared(part, student)), (memory, {})

    return Objective(only_teacher(teacher), apply)
