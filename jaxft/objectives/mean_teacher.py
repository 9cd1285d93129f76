"""Mean teacher: a model agrees with the average of the models it was."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import what_counts
from jaxft.objectives.task import over, part_of
from jaxft.types import Array, Context, Delta, Key, Memory, Metrics, Objective


def consistency(logits: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    """Mean squared difference between the probabilities of two predictions, in float32; none goes through the teacher.

    L = mean_rows 1/C Σ_c (p_c − q_c)²

    Args:
        logits: of p, ``[..., classes]``.
        teacher: logits of q, of the same shape, without gradient.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        A scalar; zero when nothing counts.

    Raises:
        InputError: the shapes differ, or the mask does not fit.

    Example:
        >>> sure = jnp.array([[100.0, 0.0], [0.0, 0.0]])
        >>> float(consistency(jnp.zeros((2, 2)), sure))
        0.125
    """
    if logits.shape != teacher.shape or logits.ndim < 2:
        raise InputError(
            "consistency is between logits [..., classes] of one shape, but they are "
            f"{list(logits.shape)} and {list(teacher.shape)}"
        )
    shape = logits.shape[:-1]
    counts = over(jnp.ones(shape[:1], bool) if mask is None else mask, shape)
    p, q = (
        jax.nn.softmax(jnp.where(counts[..., None], z.astype(jnp.float32), 0.0))
        for z in (logits, jax.lax.stop_gradient(teacher))
    )
    apart = jnp.mean((p - q) ** 2, axis=-1)
    return jnp.sum(jnp.where(counts, apart, 0.0)) / jnp.maximum(jnp.sum(counts), 1)


def mean_teacher(
    student: str | None = "target", teacher: str | None = None, *, decay: float | Array = 0.999
) -> Objective:
    """Consistency with a teacher whose arrays are the moving average of the student's: mean teacher.

    L = mean_rows 1/C Σ_c (p_c − q_c)²,  q = f(x; θ̄) without gradient,  θ̄ ← α θ̄ + (1−α) θ

    θ is what learns, as each step found it: a step adds the arrays that it starts from, before it changes them, and its
    teacher is the average with these in it. The average starts as the arrays of the start and is kept in float32, as a
    change of a thousandth is lost in bfloat16. The teacher predicts as in evaluation, without dropout; it shares the
    frozen arrays and the running statistics of the student. The paper's weight grows with the step: give the term a
    schedule.

    Args:
        student: name of the part of the batch that the student reads; labels of its own are not read.
        teacher: name of the part that the teacher reads, row i another view of the student's row i; the same part when
            not given.
        decay: α; may be traced.

    Raises:
        InputError: a view is not in the batch, or the two have different numbers of rows; other arrays learn than those
            that the average is of, as between the phases of `repartition`.

    Example:
        >>> import jaxft as ft
        >>> import optax
        >>> calm = (mean_teacher("target"), optax.linear_schedule(0.0, 1.0, 500))
        >>> objective = ft.combine(task=ft.cross_entropy("source"), calm=calm)

    References:
        Tarvainen and Valpola, "Mean teachers are better role models: Weight-averaged consistency targets improve
        semi-supervised deep learning results", 2017; French et al., "Self-ensembling for visual domain adaptation",
        2018.
    """

    def init(key: Key, context: Context) -> tuple[tuple[()], tuple[()], Delta]:
        del key
        return (), (), jax.tree.map(_held, context.delta)

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        if _paths(memory) != _paths(context.delta):
            raise InputError(
                "the average of mean_teacher is of other arrays than those that learn now; where these change in "
                "phases, begin each phase with a new `step.init`"
            )
        average = moving_average(memory, jax.lax.stop_gradient(context.delta), decay=decay)
        as_kept = jax.tree.map(lambda held, now: held.astype(now.dtype), average, context.delta)
        view = student if teacher is None else teacher
        q = context.forward(view, delta=as_kept, train=False).logits
        p = context.forward(student).logits
        if p.shape != q.shape:
            raise InputError(
                f"mean_teacher expects row i of {view!r} to be another view of row i of {student!r}, but their logits "
                f"are {list(q.shape)} and {list(p.shape)}"
            )
        counts = what_counts(part_of(context.batch, student), p) & what_counts(part_of(context.batch, view), q)
        return consistency(p, q, mask=counts), (average, {})

    return Objective(init, apply)


def moving_average(average: Delta, values: Delta, *, decay: float | Array = 0.999) -> Delta:
    """One step of an exponential moving average over a tree of arrays; arrays of whole numbers are taken as they come.

    θ̄ ← α θ̄ + (1−α) θ

    Args:
        average: θ̄.
        values: θ, a tree of the same structure.
        decay: α.

    Example:
        >>> moving_average({"w": jnp.array(1.0)}, {"w": jnp.array(2.0)}, decay=0.9)["w"].round(3)
        Array(1.1, dtype=float32)
    """

    def one(held: Array, now: Array) -> Array:
        return held + (1 - decay) * (now.astype(held.dtype) - held) if jnp.issubdtype(held.dtype, jnp.floating) else now

    return jax.tree.map(one, average, values)


def _paths(tree: Delta) -> list[str]:
    return [jax.tree_util.keystr(entries) for entries, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _held(leaf: Array) -> Array:
    """A copy, so that a donated state holds no array twice; of floats in float32."""
    return jnp.array(leaf, jnp.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype)
