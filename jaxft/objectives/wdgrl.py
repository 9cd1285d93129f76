"""Wasserstein distance guided representation learning: a critic measures how far apart the domains are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.errors import InputError
from jaxft.objectives.discriminator import HIDDEN, apply_mlp, init_mlp
from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective, Turn, Weights


def critic_gap(
    source: Array, target: Array, *, source_mask: Array | None = None, target_mask: Array | None = None
) -> Array:
    """E f(s) − E f(t), in float32: the Wasserstein distance, where the critic f is the best of slope one.

    Args:
        source: f(s), ``[n]``.
        target: f(t), ``[m]``.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Raises:
        InputError: values that are not ``[rows]``, or masks that do not fit.

    Example:
        >>> float(critic_gap(jnp.array([1.0, 3.0]), jnp.array([0.5])))
        1.5

    References:
        Shen et al., "Wasserstein Distance Guided Representation Learning for Domain Adaptation", 2018.
    """
    if source.ndim != 1 or target.ndim != 1:
        raise InputError(
            f"a critic gives one number a row, [n] and [m], but they are {list(source.shape)} and {list(target.shape)}"
        )
    counts = rows_that_count(source, source_mask), rows_that_count(target, target_mask)
    s, t = (mean_of_rows(f.astype(jnp.float32), rows) for f, rows in zip((source, target), counts, strict=True))
    return jnp.where(jnp.any(counts[0]) & jnp.any(counts[1]), s - t, 0.0)


def gradient_penalty(critic: Callable[[Array], Array], rows: Array, *, mask: Array | None = None) -> Array:
    """E[(‖∇f(h)‖₂ − 1)²], the norm over all axes of a row, in float32; finite where a slope is zero.

    Args:
        critic: f, from rows ``[batch, …]`` to numbers ``[batch]``, each of its row alone.
        rows: h, ``[batch, …]``.
        mask: bools ``[batch]``; False leaves a row out.

    Example:
        >>> float(gradient_penalty(lambda h: h @ jnp.array([3.0, 4.0]), jnp.ones((2, 2))))
        16.0

    References:
        Gulrajani et al., "Improved Training of Wasserstein GANs", 2017.
    """
    counts = rows_that_count(rows, mask)
    h = jnp.where(counts.reshape(-1, *[1] * (rows.ndim - 1)), rows.astype(jnp.float32), 0.0)
    slopes = jax.vmap(jax.grad(lambda row: critic(row[None])[0]))(h)
    square = jnp.sum(slopes**2, axis=tuple(range(1, slopes.ndim)))
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return mean_of_rows((norm - 1) ** 2, counts)


def wdgrl(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    repeats: int = 5,
    penalty: float | Array = 10.0,
    critic: Any = None,
    hidden: int = HIDDEN,
) -> Objective:
    """A critic learns first, in every step, how far apart the domains are; then the features come closer.

    critic:    max E f(s) − E f(t) − 10 E[(‖∇f(h)‖₂ − 1)²], five steps, h among source, target and points between
    features:  L = E f(s) − E f(t)

    A point between is drawn on the line of a row of the source and one of the target, paired by their places in the
    batch; the shorter domain begins again, and a pair counts when both of its rows do. The critic learns in its turn
    alone, by an optimizer of its own, and the weight of the term is that of the features.

    Args:
        layer: what the critic, one hidden layer with ReLU, reads: "features", "logits", "probabilities", or the number
            of a hidden state.
        source: name of a view.
        target: name of a view; labels are read of neither.
        repeats: steps of the critic in every step.
        penalty: weight of the gradient penalty; may be traced.
        critic: an optax transformation for the critic; Adam with the rate 1e-4 if None.
        hidden: units of the hidden layer.

    Returns:
        An objective with the turn "critic", whose metrics "critic/distance" and "critic/penalty" are of its last step.

    Raises:
        InputError: a view is not in the batch, has no rows, or features of another size; the model does not give the
            layer; at ``init`` of a step, repeats that are no whole number from one up.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), distance=(wdgrl(), 0.1))

    References:
        Shen et al., "Wasserstein Distance Guided Representation Learning for Domain Adaptation", 2018.
    """

    def read(context: Context) -> tuple[Array, Array, Array, Array]:
        (f_s, counts_s), (f_t, counts_t) = (layer_of(context, view, layer) for view in (source, target))
        check_domains(f_s, f_t, "wdgrl")
        return f_s, f_t, counts_s, counts_t

    def init(key: Key, context: Context) -> tuple[tuple[()], Weights, tuple[()]]:
        return (), init_mlp(key, (read(context)[0].shape[1], hidden, 1)), ()

    def gap(weights: Weights, f_s: Array, f_t: Array, counts_s: Array, counts_t: Array) -> Array:
        f = (apply_mlp(weights, x)[:, 0] for x in (f_s, f_t))
        return critic_gap(*f, source_mask=counts_s, target_mask=counts_t)

    def apply(frozen: Any, weights: Weights, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen
        return gap(weights, *read(context)), (memory, {})

    def learn(frozen: Any, weights: Weights, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen
        f_s, f_t, counts_s, counts_t = jax.lax.stop_gradient(read(context))
        pairs = jnp.arange(max(len(f_s), len(f_t)))
        first, second = pairs % len(f_s), pairs % len(f_t)
        share = jax.random.uniform(context.key, (len(pairs), 1))
        between = share * f_s[first] + (1 - share) * f_t[second]
        rows = jnp.concatenate([f_s, f_t, between])
        counts = jnp.concatenate([counts_s, counts_t, counts_s[first] & counts_t[second]])
        slope = gradient_penalty(lambda h: apply_mlp(weights, h)[:, 0], rows, mask=counts)
        distance = gap(weights, f_s, f_t, counts_s, counts_t)
        return penalty * slope - distance, (memory, {"distance": distance, "penalty": slope})

    turn = Turn("critic", learn, "weights/**", repeats, critic or optax.adam(1e-4), first=True, alone=True)
    return Objective(init, apply, (turn,))
