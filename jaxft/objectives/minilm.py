"""MiniLM: a student attends as its teacher does, and its values stand to each other as the teacher's."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.relations import attention_kl, attention_of, in_heads, projections_of, relation_kl, text_of
from jaxft.objectives.task import part_of
from jaxft.objectives.teachers import Teacher, only_teacher, teacher_outputs
from jaxft.types import Array, Context, Memory, Metrics, Objective


def minilm(teacher: Teacher, view: str | None = None, *, layer: int = -1, teacher_layer: int = -1) -> Objective:
    """Distils the attention of one layer and the relation of its values: MiniLM.

    L = mean KL(A_t ‖ A_s) + mean KL(softmax(V_t V_tᵀ / √d_t) ‖ softmax(V_s V_sᵀ / √d_s))

    Student and teacher need as many heads and one tokenizer; sizes and numbers of layers may differ.

    Args:
        teacher: a transformer of `load_model`.
        view: name of the part of the batch; rows that its ``mask`` leaves out do not count, nor do the tokens that its
            ``attention_mask`` does.
        layer: of the student, from 1 up, or -1 for the last.
        teacher_layer: of the teacher.

    Raises:
        InputError: there is no such layer; other numbers of heads; the teacher is no one model.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="features")
        >>> objective = ft.combine(deep=ft.minilm(teacher))

    References:
        Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
        Transformers", 2020.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        theirs = teacher_outputs(teacher, frozen, context, view, "attentions")
        ours = context.forward(view)
        a_s, a_t = attention_of(ours, layer, "student"), attention_of(theirs, teacher_layer, "teacher")
        v_s, v_t = projections_of(ours, layer, "student")[2], projections_of(theirs, teacher_layer, "teacher")[2]
        text = text_of(part_of(context.batch, view), ours)
        attention, relation = attention_kl(a_s, a_t, mask=text), relation_kl(v_s, v_t, mask=text)
        return attention + relation, (memory, {"attention": attention, "values": relation})

    return Objective(only_teacher(teacher), apply)


def minilm2(
    teacher: Teacher, view: str | None = None, *, layer: int = -1, teacher_layer: int = -1, heads: int | None = None
) -> Objective:
    """Distils the relations of queries, keys and values of one layer, in heads of its own: MiniLMv2.

    L = Σ_{X in Q, K, V} mean KL(softmax(X_t X_tᵀ / √d_t) ‖ softmax(X_s X_sᵀ / √d_s))

    The numbers of each token are split anew into relation heads, so that neither sizes nor heads need be those of the
    teacher. The paper takes an upper middle layer of large teachers, such as 21 of 24.

    Args:
        teacher: a transformer of `load_model`.
        view: name of the part of the batch; rows that its ``mask`` leaves out do not count, nor do the tokens that its
            ``attention_mask`` does.
        layer: of the student, from 1 up, or -1 for the last.
        teacher_layer: of the teacher.
        heads: of relations; as many as the teacher's queries have if None. The paper has 48 for a teacher of size 768.

    Raises:
        InputError: there is no such layer; sizes that the heads do not divide; the teacher is no one model.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="features")
        >>> objective = ft.combine(deep=ft.minilm2(teacher, teacher_layer=5, heads=24))

    References:
        Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
        Transformers", 2021.
    """
    if heads is not None and (isinstance(heads, bool) or not isinstance(heads, int) or heads < 1):
        raise InputError(f"heads of relations are a whole number from 1 up, but are {heads!r}")

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        theirs = projections_of(teacher_outputs(teacher, frozen, context, view, "attentions"), teacher_layer, "teacher")
        outputs = context.forward(view)
        ours = projections_of(outputs, layer, "student")
        number = theirs[0].shape[1] if heads is None else heads
        text = text_of(part_of(context.batch, view), outputs)
        found = {
            name: relation_kl(in_heads(x_s, number), in_heads(x_t, number), mask=text)
            for name, x_s, x_t in zip(("queries", "keys", "values"), ours, theirs, strict=True)
        }
        return jnp.sum(jnp.stack(list(found.values()))), (memory, found)

    return Objective(only_teacher(teacher), apply)
