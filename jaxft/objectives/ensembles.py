"""Several models as one teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.types import Array, Model


class Ensemble(NamedTuple):
    """Several teachers of one task, as `ensemble` makes it.

    Attributes:
        members: the models.
        weights: of their probabilities, of sum one, ``[members]``.
        pick: one of them, drawn anew at every step by these weights, is the teacher of that step.
    """

    members: tuple[Model, ...]
    weights: Array
    pick: bool


def ensemble(
    models: Sequence[Model], *, weights: Sequence[float] | Array | None = None, pick: bool = False
) -> Ensemble:
    """Several teachers as one: the weighted mean of their probabilities, or one of them at each step.

    The mean is that of the probabilities at the temperature of the term that asks. With ``pick`` one member alone runs.

    Args:
        models: of one task, of any families.
        weights: one for each, not negative, of any positive sum; equal if None.
        pick: draw one member at each step with probabilities in proportion to the weights.

    Raises:
        InputError: no model, something that is no model, or weights that do not fit.

    Example:
        >>> import jaxft as ft
        >>> nets = [ft.small_mlp(4, num_labels=3, hidden=(5,), seed=seed) for seed in range(2)]
        >>> ensemble(nets, weights=(1.0, 3.0)).weights.tolist()
        [0.25, 0.75]

    References:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015 (mean). Fukuda et al., "Efficient Knowledge
        Distillation from an Ensemble of Teachers", 2017 (one at a time).
    """
    members = tuple(models)
    if not members or not all(isinstance(model, Model) for model in members):
        kinds = ", ".join(type(model).__name__ for model in members) or "nothing"
        raise InputError(f"an ensemble is of models, at least one, but got {kinds}")
    w = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    if w.shape != (len(members),) or not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise InputError(
            f"an ensemble of {len(members)} models has as many weights from 0 up, not all 0, but they are {w.tolist()}"
        )
    return Ensemble(members, jnp.asarray(w / w.sum(), jnp.float32), pick)


def mean_logits(logits: Sequence[Array], weights: Array, temperature: float | Array = 1.0) -> Array:
    """Logits whose softmax at a temperature is the weighted mean of those of several models, in float32.

    z = T log Σ_k w_k softmax(z_k / T)

    Args:
        logits: z_k, each ``[…, classes]``.
        weights: w of sum one, ``[models]``.
        temperature: T; may be traced.

    Raises:
        InputError: the logits differ in shape.

    Example:
        >>> z = mean_logits([jnp.log(jnp.array([0.8, 0.2])), jnp.log(jnp.array([0.4, 0.6]))], jnp.array([0.5, 0.5]))
        >>> jax.nn.softmax(z).round(3)
        Array([0.6, 0.4], dtype=float32)
    """
    check_alike(logits)
    each = jnp.stack([jax.nn.log_softmax(z.astype(jnp.float32) / temperature) for z in logits])
    shares = jnp.log(weights).reshape(-1, *[1] * (each.ndim - 1))
    return temperature * jax.nn.logsumexp(each + shares, axis=0)


def check_alike(logits: Sequence[Any]) -> None:
    """Refuses predictions of different shape.

    Raises:
        InputError: they are.
    """
    if len({tuple(z.shape) for z in logits}) != 1:
        shapes = " and ".join(str(list(shape)) for shape in dict.fromkeys(tuple(z.shape) for z in logits))
        raise InputError(f"the members of an ensemble predict the same classes, but their logits are {shapes}")
