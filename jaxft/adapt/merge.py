"""One plain tree of arrays out of an adapted model."""

from __future__ import annotations

from jaxft.errors import InputError
from jaxft.trees import join
from jaxft.types import Adaptation, Delta, DomainStatistics, Frozen, Params, PyTree
from jaxft.weights import materialise_all


def merge(adaptation: Adaptation, frozen: Frozen, delta: Delta, *, stats: PyTree = None) -> Params:
    """Returns the params of the adapted model with every structured weight as one array.

    The sum of base and update is computed in float32 and returned in the dtype of the base.

    Args:
        adaptation: the adaptation that made frozen and delta.
        frozen: as returned by ``adaptation.init``, or ``frozen.model`` of a step.
        delta: the trained arrays.
        stats: running statistics, ``state.stats`` of a step; None for a model without.

    Raises:
        InputError: the statistics are of several domains.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxft.adapt import lora
        >>> adaptation = lora("kernel", rank=1, alpha=1.0)
        >>> frozen, delta = adaptation.init(jax.random.key(0), {"kernel": jnp.ones((2, 3))})
        >>> merge(adaptation, frozen, {"kernel": {"a": jnp.ones((2, 1)), "b": jnp.ones((1, 3))}})["kernel"][0]
        Array([2., 2., 2.], dtype=float32)
    """
    if isinstance(stats, DomainStatistics):
        raise InputError(
            f"there are running statistics of {', '.join(stats.views)}, and a merged model has those of one; choose "
            "it with stats=jaxft.statistics_of(state.stats, 'target')"
        )
    params = adaptation.bind(frozen, delta)
    return materialise_all(params if stats is None else join(stats, params))
