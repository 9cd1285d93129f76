"""Moment matching between several sources and a target."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def moment_distance(
    sources: Sequence[Array],
    target: Array,
    *,
    moments: int = 2,
    source_masks: Sequence[Array | None] | None = None,
    target_mask: Array | None = None,
) -> Array:
    """How far apart the moments of several sets of features are, in float32.

    L = Σ_{k=1..K} [1/N Σ_i ‖m_k(s_i) − m_k(t)‖ + 2/(N(N−1)) Σ_{i<j} ‖m_k(s_i) − m_k(s_j)‖],  m_k(x) = mean_rows x^k

    The norms are not squared, and x^k is element by element. With one source there are no pairs.

    Args:
        sources: s_1 … s_N, each ``[batch, dim]``; the numbers of rows may differ.
        target: t, ``[batch, dim]``.
        moments: K.
        source_masks: for each source bools ``[batch]`` or None.
        target_mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar. A set of which no row counts is left out of all sums.

    Raises:
        InputError: no source, features of different size, masks that do not fit, or no moment.

    Example:
        >>> one, other, target = jnp.array([[0.0], [2.0]]), jnp.array([[1.0]]), jnp.array([[1.0], [1.0]])
        >>> float(moment_distance([one, other], target))
        1.5

    References:
        Peng et al., "Moment Matching for Multi-Source Domain Adaptation", 2019.
    """
    groups = [*sources, target]
    shapes = [list(group.shape) for group in groups]
    if len(groups) < 2 or any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        raise InputError(f"moments are of at least one source and a target [batch, dim] of one size, but got {shapes}")
    if isinstance(moments, bool) or not isinstance(moments, int) or moments < 1:
        raise InputError(f"moments is how many are compared, a whole number from 1 up, but is {moments!r}")
    masks = [None] * len(sources) if source_masks is None else list(source_masks)
    if len(masks) != len(sources):
        raise InputError(f"expected a mask or None for each of {len(sources)} sources, but got {len(masks)}")
    counts = [rows_that_count(*pair) for pair in zip(groups, [*masks, target_mask], strict=True)]
    rows = [jnp.where(c[:, None], group.astype(jnp.float32), 0.0) for group, c in zip(groups, counts, strict=True)]
    there = [jnp.any(c) for c in counts]
    last = len(groups) - 1
    pairs = ([(i, last) for i in range(last)], list(combinations(range(last), 2)))
    total = jnp.zeros(())
    for k in range(1, moments + 1):
        means = [jnp.sum(x**k, axis=0) / jnp.maximum(jnp.sum(c), 1) for x, c in zip(rows, counts, strict=True)]
        for some in filter(None, pairs):
            both = jnp.stack([there[i] & there[j] for i, j in some])
            apart = jnp.stack([_norm(means[i] - means[j]) for i, j in some])
            total += jnp.sum(jnp.where(both, apart, 0.0)) / jnp.maximum(jnp.sum(both), 1)
    return total


def m3sda(sources: Sequence[str], target: str = "target", *, layer: Layer = "features", moments: int = 2) -> Objective:
    """Moment matching of several sources with a target and with one another.

    L = `moment_distance` of a layer of the views

    The risk of the sources is `erm`, a term beside this one. The paper's second form, with two heads a source, is not
    part of it.

    Args:
        sources: names of the parts of the batch; rows that a view's ``mask`` leaves out do not count.
        target: name of the target's part; its labels, if it has any, are not read.
        layer: "features", "logits", "probabilities" or the number of a hidden state.
        moments: how many are compared.

    Raises:
        InputError: no source; a view that is not in the batch; a layer that the model does not give.

    Example:
        >>> import jaxft as ft
        >>> sources = ["books", "films"]
        >>> objective = ft.combine(risk=ft.erm(sources), align=(ft.m3sda(sources, "music"), 0.01))

    References:
        Peng et al., "Moment Matching for Multi-Source Domain Adaptation", 2019.
    """
    names = (sources,) if isinstance(sources, str) else tuple(sources)
    if not names:
        raise InputError("m3sda expects at least one source, as in m3sda(['books', 'films'], 'music')")

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        found = [layer_of(context, view, layer) for view in names]
        values, mask = layer_of(context, target, layer)
        loss = moment_distance(
            [rows for rows, _ in found],
            values,
            moments=moments,
            source_masks=[counts for _, counts in found],
            target_mask=mask,
        )
        return loss, (memory, {})

    return Objective(no_state, apply)


def _norm(vector: Array) -> Array:
    """The Euclidean norm; its slope at zero is zero, where that of a root is infinite."""
    square = jnp.sum(vector**2)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
