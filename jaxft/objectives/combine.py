"""Several objectives as one weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.trees import Selection, as_selector, select
from jaxft.types import Array, Context, Key, Mask, Memory, Metrics, Objective, Params, Turn

Weight = float | np.number | np.ndarray | Array | Callable[[Array], Array]


def combine(**terms: Objective | tuple[Objective, Weight]) -> Objective:
    """Minimises the weighted sum of named terms over shared forward passes.

    L = Σ_k w_k(step) L_k

    Terms that name one teacher share its forward pass too.

    Each term logs its raw value under its name, ``name/weight`` and ``name/weighted`` beside it, and its own metrics
    as ``name/metric``. The turns of a term are turns of the sum, and its weight is that of the main part alone.

    Args:
        **terms: an objective, or a pair of an objective and its weight: a number, traced or not, or a schedule from the
            step to a number.

    Raises:
        InputError: no term is given, a term is not an objective or such a pair, or two metrics get one name.

    Example:
        >>> from jaxft.objectives import cross_entropy, mean_squared_error
        >>> import optax
        >>> objective = combine(task=cross_entropy("source"), fit=(mean_squared_error("pairs"), 0.1))
        >>> warmed = combine(task=cross_entropy(), fit=(mean_squared_error(), optax.linear_schedule(0, 1, 100)))
    """
    pairs = {name: _pair(name, term) for name, term in terms.items()}
    if not pairs:
        raise InputError("combine expects at least one named term, as in combine(task=cross_entropy())")

    def init(key: Key, context: Context) -> tuple[Any, Any, Any]:
        parts = {
            name: objective.init(jax.random.fold_in(key, index), context)
            for index, (name, (objective, _)) in enumerate(pairs.items())
        }
        frozen, weights, memory = ({name: part[i] for name, part in parts.items()} for i in range(3))
        return frozen, weights, memory

    def apply(frozen: Any, weights: Any, memory: Any, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        total, memories = jnp.zeros(()), {}
        context = context._replace(shared={} if context.shared is None else context.shared)
        metrics: Metrics = {}
        for index, (name, (objective, weight)) in enumerate(pairs.items()):
            inner = context._replace(key=jax.random.fold_in(context.key, index))
            raw, (memories[name], own) = objective.apply(frozen[name], weights[name], memory[name], inner)
            w = jnp.asarray(weight(context.step) if callable(weight) else weight, jnp.float32)
            total += w * raw
            found = {name: raw, f"{name}/weight": w, f"{name}/weighted": w * raw}
            for metric, value in (*found.items(), *((f"{name}/{metric}", value) for metric, value in own.items())):
                if metric in metrics:
                    raise InputError(f"two metrics of the combination are both named {metric!r}; rename a term")
                metrics[metric] = value
        return total, (memories, metrics)

    turns = [_within(name, index, turn) for index, (name, (term, _)) in enumerate(pairs.items()) for turn in term.turns]
    return Objective(init, apply, tuple(turns))


def _within(name: str, index: int, turn: Turn) -> Turn:
    """A turn of one term as a turn of them all, which sees that term's arrays alone."""

    def apply(frozen: Any, weights: Any, memory: Any, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        inner = context._replace(key=jax.random.fold_in(context.key, index))
        loss, (own, metrics) = turn.apply(frozen[name], weights[name], memory[name], inner)
        return loss, ({**memory, name: own}, metrics)

    def mask(learned: Params) -> Mask:
        inner = select(turn.learns, {"delta": learned["delta"], "weights": learned["weights"][name]})
        others = jax.tree.map(lambda _: False, learned["weights"])
        return {"delta": inner["delta"], "weights": {**others, name: inner["weights"]}}

    learns = Selection(mask, f"{as_selector(turn.learns)!r} of the term {name!r}")
    return turn._replace(name=f"{name}/{turn.name}", apply=apply, learns=learns)


def _pair(name: str, term: Any) -> tuple[Objective, Weight]:
    if isinstance(term, Objective):
        return term, 1.0
    match term:
        case (Objective() as objective, (int() | float() | np.number() | np.ndarray() | jax.Array()) as weight):
            return objective, weight
        case (Objective() as objective, weight) if callable(weight):
            return objective, weight
    raise InputError(
        f"the term {name!r} must be an objective or a pair (objective, weight or schedule), but is {term!r}"
    )
