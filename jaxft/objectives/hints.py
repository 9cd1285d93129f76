"""Hints: hidden states of a student that a learned map brings to a teacher's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.objectives.feature_distance import squared_feature_distance
from jaxft.objectives.layer_maps import LayerMap, check_map, paired_states
from jaxft.objectives.rows import what_counts
from jaxft.objectives.task import part_of
from jaxft.objectives.teachers import Teacher, held
from jaxft.types import Array, Context, Frozen, Key, Memory, Metrics, Objective, Weights


def hidden_mse(student: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    """Mean squared error between hidden states, over rows, positions and channels, in float32.

    Args:
        student: ``[batch, …, C]``.
        teacher: of the same shape, without gradient.
        mask: bools ``[batch]``, or over positions too; False leaves a row or position out.

    Returns:
        A scalar; zero when nothing counts.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> float(hidden_mse(jnp.zeros((1, 2)), jnp.array([[2.0, 0.0]])))
        2.0
    """
    return 2 * squared_feature_distance(student, jax.lax.stop_gradient(teacher), mask=mask) / student.shape[-1]


def init_projection(key: Key, inputs: int, outputs: int) -> Weights:
    """A dense layer from one size to another; one of equal sizes starts as the identity.

    Example:
        >>> init_projection(jax.random.key(0), 2, 2)["kernel"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    random = jax.random.normal(key, (inputs, outputs)) / jnp.sqrt(inputs)
    return {"kernel": jnp.eye(inputs) if inputs == outputs else random, "bias": jnp.zeros(outputs)}


def project(weights: Weights, x: Array) -> Array:
    """``x W + b`` in float32.

    Example:
        >>> project(init_projection(jax.random.key(0), 2, 3), jnp.ones((4, 5, 2))).shape
        (4, 5, 3)
    """
    found: Array = x.astype(jnp.float32) @ weights["kernel"] + weights["bias"]
    return found


def hints(teacher: Teacher, view: str | None = None, *, layers: LayerMap, learned: bool = True) -> Objective:
    """Brings hidden states of the student near those of the teacher: FitNets.

    L = Σ_{s → t} mean (h_s W + b − h_t)²

    W and b, one dense layer for each pair, learn beside the student and are not needed after it; for maps of pixels
    that is a convolution of one pixel. The paper sums squares over channels and halves them, which is another weight.

    Args:
        teacher: a model, or None for the columns that `distil.remember` wrote.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count, nor do the
            tokens that its ``attention_mask`` does.
        layers: numbers of the student's hidden states -> the teacher's, as in ``{1: 2}``; 0 is the embeddings, -1 the
            last.
        learned: False compares states as they are, which must be of one size.

    Raises:
        InputError: no map of layers; a layer that one does not have; states that differ in more than their channels.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="classify", num_labels=2)
        >>> objective = ft.combine(task=ft.cross_entropy(), hint=ft.hints(teacher, layers={1: 2, 3: 6}))

    References:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015.
    """
    pairs = check_map(layers, "hints")

    def init(key: Key, context: Context) -> tuple[Frozen, Weights, tuple[()]]:
        frozen = held(teacher)
        states = paired_states(teacher, frozen, context, view, pairs)
        keys = jax.random.split(key, len(states))
        sizes = [(ours.shape[-1], theirs.shape[-1]) for ours, theirs in states]
        return frozen, [init_projection(k, *size) for k, size in zip(keys, sizes, strict=True)] if learned else (), ()

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        part, loss = part_of(context.batch, view), jnp.zeros(())
        for place, (ours, theirs) in enumerate(paired_states(teacher, frozen, context, view, pairs)):
            mapped = project(weights[place], ours) if learned else ours
            loss += hidden_mse(mapped, theirs, mask=what_counts(part, ours))
        return loss, (memory, {})

    return Objective(init, apply)
