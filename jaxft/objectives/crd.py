"""Contrastive distillation: a row's features are told from other rows' by what the teacher makes of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.hints import init_projection, project
from jaxft.objectives.rows import features_of, mean_of_rows, rows_that_count
from jaxft.objectives.teachers import Teacher, held, positive, teacher_features
from jaxft.types import Array, Context, Frozen, Key, Memory, Metrics, Objective, Weights


def crd(
    student: Array,
    teacher: Array,
    *,
    temperature: float | Array = 0.07,
    rows: int | Array | None = None,
    mask: Array | None = None,
) -> Array:
    """Noise-contrastive loss of telling each row's pair of features from pairs with other rows, in float32.

    L = −mean_i [log h(s_i, t_i) + Σ_{j≠i} log(1 − h(s_i, t_j))],  h(s, t) = e^{sᵀt/τ} / (e^{sᵀt/τ} + N/M)

    s and t are brought to norm one. The N rows beside one in the batch are its negatives, where the paper draws
    thousands from a memory.

    Args:
        student: s, ``[batch, dim]``.
        teacher: t, of the same shape; a gradient reaches it, for what maps it to this size.
        temperature: τ above 0; may be traced.
        rows: M, of the data set; those of the batch if None.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar from 0 up.

    Raises:
        InputError: the features are no matrices of one shape, the mask does not fit, or τ is not above 0.

    Example:
        >>> x = jnp.eye(3)
        >>> float(crd(x, x)) < float(crd(x, x[::-1]))
        True

    References:
        Tian et al., "Contrastive Representation Distillation", 2020.
    """
    positive(temperature, "the temperature of contrastive distillation")
    if student.ndim != 2 or student.shape != teacher.shape:
        raise InputError(
            f"crd expects features [batch, dim] of one shape, but they are {list(student.shape)} and "
            f"{list(teacher.shape)}: project them to one size, as contrastive_distillation does"
        )
    counts = rows_that_count(student, mask)
    s, t = (_unit(jnp.where(counts[:, None], x.astype(jnp.float32), 0.0)) for x in (student, teacher))
    number = jnp.sum(counts)
    share = jnp.maximum(number - 1, 1) / (number if rows is None else rows)
    # log h and log(1 − h) of a difference of logarithms: h itself is 0 or 1 in float32 long before them.
    log_odds = jnp.matmul(s, t.T, precision="highest") / temperature - jnp.log(share)
    same = jnp.eye(len(counts), dtype=bool)
    others = jnp.where(counts[:, None] & counts & ~same, jax.nn.log_sigmoid(-log_odds), 0.0)
    return -mean_of_rows(jax.nn.log_sigmoid(jnp.diagonal(log_odds)) + jnp.sum(others, axis=1), counts)


def _unit(x: Array) -> Array:
    square = jnp.sum(x**2, axis=1, keepdims=True)
    return jnp.where(square > 0, x / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def contrastive_distillation(
    teacher: Teacher,
    view: str | None = None,
    *,
    dim: int = 128,
    temperature: float | Array = 0.07,
    rows: int | Array | None = None,
) -> Objective:
    """Makes features of the student say which row the teacher sees: CRD.

    L as in `jaxft.objectives.crd`, of g_s(f^s) and g_t(f^t)

    g_s and g_t, dense layers to ``dim``, learn beside the student and are not needed after it.

    Args:
        teacher: a model, or None for the columns that `distil.remember` wrote.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count.
        dim: of the space in which they are compared.
        temperature: τ above 0; may be traced.
        rows: M, of the data set; those of the batch if None.

    Raises:
        InputError: one gives no features; τ is not above 0, or dim below one.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.small_mlp(4, num_labels=3, hidden=(50,))
        >>> objective = ft.combine(task=ft.cross_entropy(), same=(ft.contrastive_distillation(teacher), 0.8))

    References:
        Tian et al., "Contrastive Representation Distillation", 2020.
    """
    positive(temperature, "the temperature of contrastive distillation")
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise InputError(f"dim of contrastive_distillation is a whole number from 1 up, but is {dim!r}")

    def init(key: Key, context: Context) -> tuple[Frozen, Weights, tuple[()]]:
        frozen, (first, second) = held(teacher), jax.random.split(key)
        features, _ = features_of(context, view, "contrastive_distillation")
        theirs = teacher_features(teacher, frozen, context, view)
        sizes = {"student": (first, features.shape[-1]), "teacher": (second, theirs.shape[-1])}
        return frozen, {name: init_projection(k, size, dim) for name, (k, size) in sizes.items()}, ()

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        features, mask = features_of(context, view, "contrastive_distillation")
        theirs = teacher_features(teacher, frozen, context, view)
        s, t = project(weights["student"], features), project(weights["teacher"], theirs)
        return crd(s, t, temperature=temperature, rows=rows, mask=mask), (memory, {})

    return Objective(init, apply)
