"""Cosines between hidden states: the third part of DistilBERT's loss."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.layer_maps import LayerMap, check_map, paired_states
from jaxft.objectives.rows import mean_of_rows, what_counts
from jaxft.objectives.task import over, part_of
from jaxft.objectives.teachers import Teacher, only_teacher
from jaxft.types import Array, Context, Memory, Metrics, Objective


def cosine_distance(student: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    """How far hidden states point apart, in float32; no gradient reaches the teacher.

    L = mean 1 − ⟨h_s, h_t⟩ / (‖h_s‖ ‖h_t‖)

    Args:
        student: h_s, ``[…, dim]``.
        teacher: h_t, of the same shape.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        A scalar from 0 to 2; a vector of zeros is at right angles to all.

    Raises:
        InputError: the shapes differ, or the mask does not fit.

    Example:
        >>> float(cosine_distance(jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]])))
        0.5
    """
    if student.shape != teacher.shape or student.ndim < 2:
        raise InputError(
            f"cosines are between hidden states [..., dim] of one shape, but they are {list(student.shape)} and "
            f"{list(teacher.shape)}; hints learn a map between sizes"
        )
    shape = student.shape[:-1]
    counts = over(jnp.ones(shape[:1], bool) if mask is None else mask, shape)
    h_s, h_t = (
        jnp.where(counts[..., None], h.astype(jnp.float32), 0.0) for h in (student, jax.lax.stop_gradient(teacher))
    )
    squares = jnp.sum(h_s**2, axis=-1) * jnp.sum(h_t**2, axis=-1)
    cosines = jnp.sum(h_s * h_t, axis=-1) / jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return mean_of_rows(1 - cosines, counts)


def hidden_cosine(teacher: Teacher, view: str | None = None, *, layers: LayerMap | None = None) -> Objective:
    """Makes hidden states of the student point where the teacher's do.

    L = Σ_{s → t} mean 1 − cos(h_s, h_t)

    DistilBERT's loss is this beside the student's own and `knowledge_distillation` at temperature 2, and its student
    starts from layers of the teacher: `distil.shrink`.

    Args:
        teacher: a model, or None for the columns that `distil.remember` wrote.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count, nor do the
            tokens that its ``attention_mask`` does.
        layers: numbers of the student's hidden states -> the teacher's; the last to the last if None.

    Raises:
        InputError: no map of layers; a layer that one does not have; states of different size.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="classify", num_labels=2)
        >>> soft = (ft.knowledge_distillation(teacher, temperature=2.0), 5.0)
        >>> distilbert = ft.combine(task=(ft.cross_entropy(), 2.0), soft=soft, cosine=ft.hidden_cosine(teacher))

    References:
        Sanh et al., "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019.
    """
    pairs = check_map({-1: -1} if layers is None else layers, "hidden_cosine")

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        part, loss = part_of(context.batch, view), jnp.zeros(())
        for ours, theirs in paired_states(teacher, frozen, context, view, pairs):
            loss += cosine_distance(ours, theirs, mask=what_counts(part, ours))
        return loss, (memory, {})

    return Objective(only_teacher(teacher), apply)
