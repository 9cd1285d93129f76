"""DELTA: features stay near those of the pretrained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import hidden_state, mean_of_rows, what_counts
from jaxft.objectives.task import over, part_of
from jaxft.objectives.teachers import run
from jaxft.types import Array, Context, Key, Memory, Metrics, Model, Objective, Outputs


def squared_feature_distance(
    features: Array, others: Array, *, attention: Array | None = None, mask: Array | None = None
) -> Array:
    """Half the squared distance between features, mean over rows, in float32.

    L = ½ mean_rows Σ_c C w_c mean_positions (f_c − g_c)²

    Args:
        features: f, ``[batch, C]``, or ``[batch, …, C]`` with positions of tokens or pixels between.
        others: g, of the same shape.
        attention: w, ``[C]``, positive and of sum 1; 1/C when not given.
        mask: bools ``[batch]``, or over positions too; False leaves a row or position out.

    Returns:
        A scalar; zero when nothing counts.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> squared_feature_distance(jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.zeros((2, 2)))
        Array(1.25, dtype=float32)
    """
    channels = features.shape[-1]
    if features.shape != others.shape or features.ndim < 2:
        raise InputError(
            f"expected features [batch, …, channels] of one shape, but they are {list(features.shape)} and "
            f"{list(others.shape)}"
        )
    if attention is not None and attention.shape != (channels,):
        raise InputError(f"expected attention over {channels} channels, but it has shape {list(attention.shape)}")
    w = jnp.full(channels, 1 / channels) if attention is None else attention.astype(jnp.float32)
    shape = features.shape[:-1]
    counts = over(jnp.ones(shape[:1], bool) if mask is None else mask, shape)
    # What does not count is set aside before it is subtracted: even its NaN must not reach a gradient.
    f, g = (jnp.where(counts[..., None], part.astype(jnp.float32), 0.0) for part in (features, others))
    distances = (((f - g) ** 2) @ (channels * w)).reshape(shape[0], -1)
    positions = jnp.sum(counts.reshape(shape[0], -1), axis=1)
    return 0.5 * mean_of_rows(jnp.sum(distances, axis=1) / jnp.maximum(positions, 1), positions > 0)


def channel_attention(increases: Array, *, temperature: float | Array = 5.0) -> Array:
    """How much each channel matters to the task: the more the loss grows without it, the more.

    w = softmax((d − mean d) / (T std d)),  d_j = loss without channel j − loss

    Args:
        increases: d, ``[channels]``, measured on the task with the pretrained model, a channel set to zero at a time.
        temperature: T of the authors' code; the paper's softmax(d) is over d as it is.

    Example:
        >>> channel_attention(jnp.array([0.0, 0.0]))
        Array([0.5, 0.5], dtype=float32)

    References:
        Li et al., "DELTA: Deep Learning Transfer using Feature Map with Attention for Convolutional Networks", 2019.
    """
    d = increases.astype(jnp.float32)
    variance = jnp.var(d)
    spread = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))  # the slope of a root is infinite at zero
    return jax.nn.softmax((d - jnp.mean(d)) / (temperature * spread))


def feature_distance(
    model: Model,
    view: str | None = None,
    *,
    layers: Sequence[int] | None = None,
    attention: Sequence[Array] | None = None,
    weight: float | Array = 1e-2,
) -> Objective:
    """Holds features near those of the pretrained model: DELTA.

    L = α/2 Σ_layers mean_rows Σ_c C w_c mean_positions (f_c(x) − f⁰_c(x))²

    The pretrained model runs as in evaluation, its params frozen arrays of the objective; the one that learns runs as
    in training. The authors sum over the rows of a batch where this is their mean; without attention they sum over
    positions too. Their penalty of the head, β/2 ‖w_head‖², is that of `l2_sp`.

    Args:
        model: the pretrained model, such as the one that is adapted; it must give the same layers.
        view: name of the part of the batch, labelled or not; rows that its ``mask`` leaves out do not count, nor do
            the tokens that its ``attention_mask`` does.
        layers: numbers of hidden states, 0 the embeddings, -1 the last; None is the features that the head reads.
        attention: for each of the layers weights of its channels, of sum 1, as from `channel_attention`.
        weight: α; may be traced.

    Raises:
        InputError: attention for another number of layers; a view that is not in the batch; a model that does not give
            what is compared.

    Example:
        >>> import jaxft as ft
        >>> def apply(params, batch, *, train=False, key=None):
        ...     return Outputs(features=batch["x"] @ params)
        >>> base, batch = ft.Model(apply, jnp.eye(2), None), {"x": jnp.ones((3, 2))}
        >>> context = Context(lambda view=None: apply(2 * jnp.eye(2), batch), batch, (), 0, jax.random.key(0))
        >>> objective = feature_distance(base, weight=1.0)
        >>> objective.apply(*objective.init(jax.random.key(0), context), context)[0]
        Array(1., dtype=float32)

    References:
        Li et al., "DELTA: Deep Learning Transfer using Feature Map with Attention for Convolutional Networks", 2019.
    """
    count = 1 if layers is None else len(layers)
    if count == 0 or (attention is not None and len(attention) != count):
        given = "none" if attention is None else len(attention)
        raise InputError(
            f"feature_distance expects at least one layer, and attention for each: got {count} and {given}"
        )

    def init(key: Key, context: Context) -> tuple[dict[str, Any], tuple[()], tuple[()]]:
        del key, context
        return {"params": model.params, "attention": None if attention is None else tuple(attention)}, (), ()

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del weights
        part = part_of(context.batch, view)
        base = run(model, frozen["params"], context, view)
        pairs = zip(_chosen(context.forward(view), layers), _chosen(base, layers), strict=True)
        loss = jnp.zeros(())
        for index, (ours, theirs) in enumerate(pairs):
            w = None if frozen["attention"] is None else frozen["attention"][index]
            loss += squared_feature_distance(ours, theirs, attention=w, mask=what_counts(part, ours))
        return weight * loss, (memory, {})

    return Objective(init, apply)


def _chosen(outputs: Outputs, layers: Sequence[int] | None) -> list[Array]:
    if layers is None:
        if outputs.features is None:
            raise InputError("the model gives no features; name hidden states instead, as in layers=[-1]")
        return [outputs.features]
    return [hidden_state(outputs, layer) for layer in layers]
