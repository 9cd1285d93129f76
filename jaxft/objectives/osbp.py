"""Open-set adaptation by backpropagation: the target has rows of no class of the source."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.links import chosen_of
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.objectives.task import no_state, part_of
from jaxft.trees import map_with_path
from jaxft.types import Array, Choice, Context, Delta, Key, Memory, Metrics, Objective


def unknown_cross_entropy(logits: Array, *, threshold: float | Array = 0.5, mask: Array | None = None) -> Array:
    """Binary cross-entropy of the probability of the last class, "unknown", with a fixed share, in float32.

    L = mean −t log p_u − (1−t) log(1 − p_u)

    Args:
        logits: ``[batch, classes + 1]``, the last class "unknown".
        threshold: t in (0, 1).
        mask: bools ``[batch]``; False leaves a row out.

    Raises:
        InputError: the logits are not ``[batch, classes + 1]`` with a class beside "unknown", or the mask does not fit.

    Example:
        >>> round(float(unknown_cross_entropy(jnp.log(jnp.array([[0.25, 0.25, 0.5]])))), 4)
        0.6931

    References:
        Saito et al., "Open Set Domain Adaptation by Backpropagation", 2018.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(
            f"a class for what is unknown is the last of logits [batch, classes + 1], but they are {list(logits.shape)}"
        )
    counts = rows_that_count(logits, mask)
    z = jnp.where(counts[:, None], logits.astype(jnp.float32), 0.0)
    odds = z[:, -1] - jax.nn.logsumexp(z[:, :-1], axis=1)
    return mean_of_rows(-threshold * jax.nn.log_sigmoid(odds) - (1 - threshold) * jax.nn.log_sigmoid(-odds), counts)


def osbp(target: str = "target", *, threshold: float | Array = 0.5, head: Choice = "head/**") -> Objective:
    """The head holds target rows at a probability of "unknown" that the features drive them away from.

    L = mean −t log p_u − (1−t) log(1 − p_u),  minimised by the head and maximised by all else that learns

    The model has one class more than the source, the last, for what is unknown; no row of the source has that label.
    The cross-entropy of the source is the task, a term beside this one. Between head and features the paper reverses
    the gradient: here it is reversed for every array that learns outside the head, which is the same. The target is
    run once more for it, without what an adaptation drops at random.

    Args:
        target: name of the part of the batch; its labels, if it has any, are not read.
        threshold: t; may be traced.
        head: selects the leaves that minimise. Of a chain, whose delta is a tuple, it sees all links as one tree.

    Raises:
        InputError: at ``init``, when the selector of the head matches nothing that learns, or everything.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), unknown=ft.osbp("target"))

    References:
        Saito et al., "Open Set Domain Adaptation by Backpropagation", 2018.
    """

    def init(key: Key, context: Context) -> tuple[Any, Any, Any]:
        _reversed_outside(context.delta, head)
        return no_state(key, context)

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        part = part_of(context.batch, target)
        logits = context.forward(target, delta=_reversed_outside(context.delta, head)).logits
        loss = unknown_cross_entropy(logits, threshold=threshold, mask=part.get("mask"))
        counts = rows_that_count(logits, part.get("mask"))
        found = mean_of_rows((jnp.argmax(logits, axis=1) == logits.shape[1] - 1).astype(jnp.float32), counts)
        return loss, (memory, {"unknown": found})

    return Objective(init, apply)


def _reversed_outside(delta: Delta, head: Choice) -> Delta:
    """The same values; the gradient of what is not in the head comes back with the other sign."""
    chosen = chosen_of(head, delta)
    if not any(chosen.values()) or all(chosen.values()):
        raise InputError(
            f"osbp expects its head, {head!r}, to match some of what learns and leave some for the features, but of "
            f"{sorted(chosen)} it matches {sorted(path for path, ours in chosen.items() if ours)}"
        )

    def turned(path: str, leaf: Array) -> Array:
        return leaf if chosen[path] else 2 * jax.lax.stop_gradient(leaf) - leaf

    return map_with_path(turned, delta)
