"""Relational distillation: rows that are near for a teacher are near for its student."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import features_of, mean_of_rows, rows_that_count
from jaxft.objectives.teachers import Teacher, only_teacher, teacher_features
from jaxft.types import Array, Context, Memory, Metrics, Objective


def rkd(
    student: Array,
    teacher: Array,
    *,
    distance: float | Array = 25.0,
    angle: float | Array = 50.0,
    mask: Array | None = None,
) -> Array:
    """How much distances and angles between the rows of a batch differ, in float32; features may differ in size.

    L = w_d mean_{i≠j} ℓ(d^s_ij, d^t_ij) + w_a mean_{i≠j≠k} ℓ(cos^s_ijk, cos^t_ijk)
    d_ij = ‖f_i − f_j‖ / mean_{k≠l} ‖f_k − f_l‖,  cos_ijk the cosine of the angle at row j between rows i and k,
    ℓ the Huber loss with δ = 1

    Both sums of the paper are means here, over pairs and triples of different rows.

    Args:
        student: features f^s, ``[batch, dim]``.
        teacher: features f^t, ``[batch, other dim]``, without gradient.
        distance: w_d.
        angle: w_a.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar from 0 up; 0 when one set is the other moved, turned, mirrored or scaled, and below two rows.

    Raises:
        InputError: the features are no matrices of as many rows, or the mask does not fit.

    Example:
        >>> square = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
        >>> round(float(rkd(3 * square + 1, square)), 5), float(rkd(square.at[0, 0].set(-1.0), square)) > 1
        (0.0, True)

    References:
        Park et al., "Relational Knowledge Distillation", 2019.
    """
    if student.ndim != 2 or teacher.ndim != 2 or student.shape[0] != teacher.shape[0]:
        raise InputError(
            "rkd expects features [batch, dim] of student and teacher for the same rows, but they are "
            f"{list(student.shape)} and {list(teacher.shape)}"
        )
    counts = rows_that_count(student, mask)
    pairs = counts[:, None] & counts & ~jnp.eye(len(counts), dtype=bool)
    triples = pairs[:, :, None] & pairs[None] & pairs[:, None, :]
    ours, theirs = (_relations(x, counts, pairs) for x in (student, jax.lax.stop_gradient(teacher)))
    losses = [mean_of_rows(_huber(s - t), kept) for s, t, kept in zip(ours, theirs, (pairs, triples), strict=True)]
    return distance * losses[0] + angle * losses[1]


def _relations(x: Array, counts: Array, pairs: Array) -> tuple[Array, Array]:
    """Distances ``[i, j]`` over their mean, and cosines at row j ``[i, j, k]``."""
    x = jnp.where(counts[:, None], x.astype(jnp.float32), 0.0)
    apart = x[:, None] - x[None]
    square = jnp.sum(apart**2, axis=-1)
    far = square > 0
    norms = jnp.where(far, jnp.sqrt(jnp.where(far, square, 1.0)), 0.0)
    mean = mean_of_rows(norms, pairs)
    units = apart / jnp.where(far, norms, 1.0)[..., None]
    cosines = jnp.einsum("ijd,kjd->ijk", units, units, precision="highest")
    return norms / jnp.where(mean > 0, mean, 1.0), cosines


def _huber(x: Array) -> Array:
    size = jnp.abs(x)
    return jnp.where(size < 1, 0.5 * x**2, size - 0.5)


def relational_distillation(
    teacher: Teacher, view: str | None = None, *, distance: float | Array = 25.0, angle: float | Array = 50.0
) -> Objective:
    """Holds distances and angles between the features of a batch at those of the teacher: RKD.

    L = w_d mean ℓ(d^s_ij, d^t_ij) + w_a mean ℓ(cos^s_ijk, cos^t_ijk), as in `jaxft.objectives.rkd`

    Features of any sizes, and labels of any kinds, are compared. Angles take memory of the cube of the rows of a batch.

    Args:
        teacher: a model, or None for the columns that `distil.remember` wrote.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count.
        distance: w_d; may be traced.
        angle: w_a; may be traced.

    Raises:
        InputError: one gives no features.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.small_mlp(4, num_labels=3, hidden=(50,))
        >>> objective = ft.combine(task=ft.cross_entropy(), near=ft.relational_distillation(teacher))

    References:
        Park et al., "Relational Knowledge Distillation", 2019.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        features, mask = features_of(context, view, "relational_distillation")
        theirs = teacher_features(teacher, frozen, context, view)
        return rkd(features, theirs, distance=distance, angle=angle, mask=mask), (memory, {})

    return Objective(only_teacher(teacher), apply)
