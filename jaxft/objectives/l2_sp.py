"""L2-SP: what learns stays near where it starts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.objectives.links import chosen_of
from jaxft.trees import leaf_paths
from jaxft.types import Array, Choice, Context, Delta, Key, Memory, Metrics, Objective, PyTree, Start


def half_squared_distance(w: PyTree, start: PyTree | None = None) -> Array:
    """Half the squared distance between two trees, or half the squared norm of one, in float32.

    ½ Σ_leaves ‖w − w0‖²

    Args:
        w: arrays of any shapes; None is an empty place.
        start: w0, of the same structure; zeros when not given.

    Example:
        >>> half_squared_distance({"a": jnp.array([1.0, 2.0]), "b": None}, {"a": jnp.array([1.0, 0.0]), "b": None})
        Array(2., dtype=float32)
    """
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), w)
    if start is not None:
        wide = jax.tree.map(lambda leaf, other: leaf - other.astype(jnp.float32), wide, start)
    return 0.5 * sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(wide)), jnp.zeros(()))


def l2_sp(*, alpha: float | Array = 0.1, beta: float | Array = 0.01, head: Choice | None = "head/**") -> Objective:
    """Holds pretrained weights near their start and a new head near zero.

    L = α/2 ‖w − w0‖² + β/2 ‖w_head‖²

    It looks at the delta alone: w0 is the delta that training starts from, which under `tune` and `full` are the
    pretrained weights themselves; under `lora` the factors stay near theirs, as no pretrained weight stands for them.
    Where the arrays begin to learn in phases, each has its w0 from when it begins; until then it is there anyway.
    The authors leave biases and norms out of both sums: leave them out of the adaptation for the same.

    Args:
        alpha: α, strength for the pretrained weights; may be traced.
        beta: β, strength for the head; may be traced.
        head: selects the leaves without a pretrained value. Of a chain, whose delta is a tuple, it sees all links as
            one tree, so that paths are those of the params, without the number of the link. None when there is none.

    Raises:
        InputError: at ``init``, when the selector of the head matches nothing that learns.

    Example:
        >>> context = Context(None, {}, {"w": jnp.ones(2), "head": {"kernel": jnp.ones(3)}}, 0, jax.random.key(0))
        >>> objective = l2_sp(alpha=1.0, beta=2.0)
        >>> start, weights, memory = objective.init(jax.random.key(0), context)
        >>> moved = context._replace(delta={"w": jnp.full(2, 3.0), "head": {"kernel": jnp.ones(3)}})
        >>> objective.apply(start, weights, memory, moved)[0]
        Array(7., dtype=float32)

    References:
        Li, Grandvalet and Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", 2018.
    """

    def init(key: Key, context: Context) -> tuple[Start, tuple[()], tuple[()]]:
        del key
        start, _ = _pretrained_and_head(context.delta, head)
        # A copy: the arrays of the delta itself may be donated with the state.
        return Start(jax.tree.map(jnp.copy, start)), (), ()

    def apply(start: Start, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        pretrained, new = _pretrained_and_head(context.delta, head)
        near = {path: start.values[path] for path in pretrained}
        distance, norm = half_squared_distance(pretrained, near), half_squared_distance(new)
        return alpha * distance + beta * norm, (memory, {"distance": distance, "head": norm})

    return Objective(init, apply)


def _pretrained_and_head(delta: Delta, head: Choice | None) -> tuple[dict[str, Array], dict[str, Array]]:
    """The leaves of the delta, each under its path with the number of its link, in two halves."""
    leaves = leaf_paths(delta)
    chosen = {} if head is None else chosen_of(head, delta)
    new = {path: leaf for path, leaf in leaves.items() if chosen.get(path, False)}
    return {path: leaf for path, leaf in leaves.items() if path not in new}, new
