"""Attention transfer: a student looks where its teacher looks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.layer_maps import LayerMap, check_map, paired_states
from jaxft.objectives.rows import mean_of_rows, rows_that_count, what_counts
from jaxft.objectives.task import over, part_of
from jaxft.objectives.teachers import Teacher, only_teacher
from jaxft.types import Array, Context, Memory, Metrics, Objective


def attention_map(states: Array, *, power: float | Array = 2.0, mask: Array | None = None) -> Array:
    """Where the activations of a layer are large: a vector of norm one over positions, in float32.

    Q = Σ_c |A_c|^p,  Q / ‖Q‖₂

    Args:
        states: A, ``[batch, …, channels]`` over tokens or pixels.
        power: p.
        mask: bools ``[batch]``, or over positions too; what is left out has attention 0.

    Returns:
        ``[batch, positions]``.

    Raises:
        InputError: there are no positions, or the mask does not fit.

    Example:
        >>> attention_map(jnp.array([[[1.0, 1.0], [0.0, 0.0], [1.0, -1.0]]])).round(3)
        Array([[0.707, 0.   , 0.707]], dtype=float32)

    References:
        Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017.
    """
    if states.ndim < 3:
        raise InputError(f"an attention map is over positions, [batch, …, channels], but got {list(states.shape)}")
    shape = states.shape[:-1]
    counts = over(jnp.ones(shape[:1], bool) if mask is None else mask, shape)
    kept = jnp.where(counts[..., None], states.astype(jnp.float32), 0.0)
    q = jnp.sum(jnp.abs(kept) ** power, axis=-1).reshape(shape[0], -1)
    square = jnp.sum(q**2, axis=1, keepdims=True)
    return jnp.where(square > 0, q / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def attention_distance(student: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    """Half the mean distance between attention maps, in float32; no gradient reaches the teacher.

    L = ½ mean_rows ‖Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖‖₂

    Args:
        student: of `attention_map`, ``[batch, positions]``.
        teacher: of the same shape.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar from 0 to ½ √2.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> round(float(attention_distance(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]))), 4)
        0.7071
    """
    if student.shape != teacher.shape:
        raise InputError(
            f"attention maps are compared position by position, but they are {list(student.shape)} and "
            f"{list(teacher.shape)}"
        )
    square = jnp.sum((student - jax.lax.stop_gradient(teacher)) ** 2, axis=1)
    apart = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return 0.5 * mean_of_rows(apart, rows_that_count(student, mask))


def attention_transfer(
    teacher: Teacher, view: str | None = None, *, layers: LayerMap, power: float | Array = 2.0
) -> Objective:
    """Makes the activations of the student large where the teacher's are.

    L = ½ Σ_{s → t} mean_rows ‖Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖‖₂,  Q = Σ_c |A_c|^p

    Sizes of channels may differ. Maps of pixels of another size than the student's are brought to it, linearly between
    pixels. The paper's weight β is 10³ over the number of positions and rows of a batch: choose one for the task.

    Args:
        teacher: a model, or None for the columns that `distil.remember` wrote.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count, nor do the
            tokens that its ``attention_mask`` does.
        layers: numbers of the student's hidden states -> the teacher's, as in ``{1: 2}``; 0 is the embeddings of
            a text, the pixels of a `small_convnet`, -1 the last.
        power: p; may be traced.

    Raises:
        InputError: no map of layers; a layer that one does not have; texts of different length.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.small_convnet(16, num_labels=10, channels=(32, 48))
        >>> looks = (ft.attention_transfer(teacher, layers={1: 1, 2: 2}), 10.0)
        >>> objective = ft.combine(task=ft.cross_entropy(), looks=looks)

    References:
        Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional Neural
        Networks via Attention Transfer", 2017.
    """
    pairs = check_map(layers, "attention_transfer")

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        part, loss = part_of(context.batch, view), jnp.zeros(())
        for ours, theirs in paired_states(teacher, frozen, context, view, pairs):
            counts = what_counts(part, ours)
            if ours.ndim == 4 and theirs.ndim == 4 and ours.shape[1:3] != theirs.shape[1:3]:
                shape = (*ours.shape[:3], theirs.shape[-1])
                theirs = jax.image.resize(theirs.astype(jnp.float32), shape, "linear")
            maps = [attention_map(states, power=power, mask=counts) for states in (ours, theirs)]
            rows = counts if counts.ndim == 1 else counts.any(axis=1)
            loss += attention_distance(*maps, mask=rows)
        return loss, (memory, {})

    return Objective(only_teacher(teacher), apply)
