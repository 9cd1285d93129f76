"""Several objectives as one weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective

Weight = float | np.number | np.ndarray | Array | Callable[[Array], Array]


def combine(**terms: Objective | tuple[Objective, Weight]) -> Objective:
    """Minimises the weighted sum of named terms over shared forward passes.

    L = Σ_k w_k(step) L_k

    Each term logs its raw value under its name, ``name/weight`` and ``name/weighted`` beside it, and its own metrics
    as ``name/metric``.

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

    return Objective(init, apply)


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
