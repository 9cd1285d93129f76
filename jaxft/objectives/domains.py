"""Several labelled domains: their mean risk, the risk of the worst, and a head that is best in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.task import accuracy, labelled, no_state, softmax_cross_entropy, which_count
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective


def erm(views: Sequence[str]) -> Objective:
    """The mean cross-entropy over several labelled views: empirical risk minimisation.

    L = 1/G Σ_g CE_g

    Args:
        views: names of the parts of the batch, each with labels; rows that its ``mask`` leaves out do not count.

    Raises:
        InputError: no view is named or one is named twice; a view is not in the batch or has no labels.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.erm(["books", "films"])

    References:
        Gulrajani and Lopez-Paz, "In Search of Lost Domain Generalization", 2021.
    """
    names = _named("erm", views)

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        risks = risks_of(context, names)
        return jnp.mean(risks), (memory, {"accuracy": _accuracy(context, names)} | _each(names, risks))

    return Objective(no_state, apply)


def group_dro(views: Sequence[str], *, step_size: float | Array = 0.01) -> Objective:
    """Cross-entropy weighted towards the views where it is largest: group distributionally robust optimisation.

    L = Σ_g q_g CE_g,  q_g ← q_g exp(η CE_g) / Σ_h q_h exp(η CE_h)

    The weights q are memory, equal at the start; a step updates them first and gives them no gradient.

    Args:
        views: names of the parts of the batch, each with labels.
        step_size: η; may be traced.

    Raises:
        InputError: no view is named or one is named twice; a view is not in the batch or has no labels.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.group_dro(["books", "films", "music"])

    References:
        Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", 2020.
    """
    names = _named("group_dro", views)

    def init(key: Key, context: Context) -> tuple[tuple[()], tuple[()], Array]:
        del key, context
        return (), (), jnp.full(len(names), 1 / len(names))

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        risks = risks_of(context, names)
        q = group_weights(memory, risks, step_size=step_size)
        shares = {f"{name}/share": q[index] for index, name in enumerate(names)}
        return jnp.sum(q * risks), (q, {"worst": jnp.max(risks)} | shares | _each(names, risks))

    return Objective(init, apply)


def group_weights(weights: Array, risks: Array, *, step_size: float | Array = 0.01) -> Array:
    """The next weights of `group_dro`, of sum one and without gradient.

    q_g exp(η R_g) / Σ_h q_h exp(η R_h)

    Args:
        weights: q, ``[groups]``.
        risks: R, ``[groups]``.
        step_size: η.

    Example:
        >>> group_weights(jnp.array([0.5, 0.5]), jnp.array([jnp.log(3.0), 0.0]), step_size=1.0).round(4)
        Array([0.75, 0.25], dtype=float32)
    """
    raised = jnp.log(jnp.maximum(weights, 1e-30)) + step_size * risks
    return jax.lax.stop_gradient(jax.nn.softmax(raised))


def irm(views: Sequence[str]) -> Objective:
    """How far the head is from the best in each view, as a penalty: invariant risk minimisation, IRMv1.

    L = 1/G Σ_g (∂/∂w CE_g(w z))²  at w = 1

    The derivative by the scale w of the logits is zero where the head is at an optimum of the view along w. The risks
    themselves are `erm`, a term beside this one; the weight of the paper is large and starts late, such as
    ``optax.piecewise_constant_schedule(1.0, {500: 1e3})``.

    Args:
        views: names of the parts of the batch, each with labels.

    Raises:
        InputError: no view is named or one is named twice; a view is not in the batch or has no labels.

    Example:
        >>> import jaxft as ft
        >>> views = ["books", "films"]
        >>> objective = ft.combine(risk=ft.erm(views), invariant=(ft.irm(views), 10.0))

    References:
        Arjovsky et al., "Invariant Risk Minimization", 2019.
    """
    names = _named("irm", views)

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        penalties = []
        for name in names:
            part, logits = labelled(context.batch, name), context.forward(name).logits
            penalties.append(scale_gradient(logits, part["labels"], mask=part.get("mask")) ** 2)
        found = jnp.stack(penalties)
        return jnp.mean(found), (memory, _each(names, found))

    return Objective(no_state, apply)


def scale_gradient(logits: Array, labels: Array, *, mask: Array | None = None) -> Array:
    """The derivative of the cross-entropy by a scale of the logits, at one.

    ∂/∂w CE(w z) = mean Σ_c (p_c − 1[c = y]) z_c

    Args:
        logits: z, ``[..., classes]``.
        labels: y, whole numbers ``[...]``; −100 does not count.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        A scalar in float32, with a sign; zero when nothing counts.

    Example:
        >>> round(float(scale_gradient(jnp.array([[jnp.log(3.0), 0.0]]), jnp.array([0]))), 4)
        -0.2747
    """
    found: Array = jax.grad(lambda w: softmax_cross_entropy(w * logits.astype(jnp.float32), labels, mask=mask))(1.0)
    return found


def risks_of(context: Context, views: Sequence[str]) -> Array:
    """The cross-entropy of each labelled view, ``[views]``."""
    risks = []
    for name in views:
        part = labelled(context.batch, name)
        risks.append(softmax_cross_entropy(context.forward(name).logits, part["labels"], mask=part.get("mask")))
    return jnp.stack(risks)


def _accuracy(context: Context, views: Sequence[str]) -> Array:
    found = []
    for name in views:
        part = labelled(context.batch, name)
        counts = which_count(part["labels"], part.get("mask"), -100)
        found.append(accuracy(context.forward(name).logits, part["labels"], counts))
    return jnp.mean(jnp.stack(found))


def _each(views: Sequence[str], values: Array) -> Metrics:
    return {name: values[index] for index, name in enumerate(views)}


def _named(method: str, views: Sequence[str]) -> tuple[str, ...]:
    names = (views,) if isinstance(views, str) else tuple(views)
    if not names or len(set(names)) != len(names):
        raise InputError(f"{method} expects the names of different views of the batch, but got {list(names)}")
    return names
