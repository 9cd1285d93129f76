"""The layer of a view that an objective compares between domains."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import hidden_state, what_counts
from jaxft.objectives.task import part_of
from jaxft.types import Array, Batch, Context, Outputs

Layer = str | int
"""``"features"``, ``"logits"``, ``"probabilities"``, their softmax, or the number of a hidden state, -1 the last."""


def layer_of(context: Context, view: str, layer: Layer = "features") -> tuple[Array, Array]:
    """A layer of a view as rows of numbers, and which rows count.

    Args:
        context: of the step.
        view: name of the part of the batch.
        layer: which; hidden states over tokens or positions are averaged, tokens that are no text left out.

    Returns:
        ``[batch, dim]`` in float32, zero in the rows that do not count, and bools ``[batch]``.

    Raises:
        InputError: the view is not in the batch, or the model does not give that layer.

    Example:
        >>> batch = {"source": {"mask": jnp.array([True, False])}}
        >>> context = Context(lambda view: Outputs(logits=jnp.ones((2, 2))), batch, (), 0, jax.random.key(0))
        >>> values, counts = layer_of(context, "source", "probabilities")
        >>> values.tolist(), counts.tolist()
        ([[0.5, 0.5], [0.0, 0.0]], [True, False])
    """
    part = part_of(context.batch, view)
    values = _chosen(context.forward(view), layer)
    counts = jnp.asarray(part.get("mask", jnp.ones(values.shape[:1], bool)), bool)
    # What does not count is set aside before anything is computed of it: even its NaN must not reach a gradient.
    kept = jnp.where(counts.reshape(-1, *[1] * (values.ndim - 1)), values.astype(jnp.float32), 0.0)
    rows = kept if kept.ndim == 2 else _averaged(kept, part)
    return (jnp.where(counts[:, None], jax.nn.softmax(rows), 0.0) if layer == "probabilities" else rows), counts


def _chosen(outputs: Outputs, layer: Layer) -> Array:
    if isinstance(layer, int) and not isinstance(layer, bool):
        return hidden_state(outputs, layer)
    names = {"features": outputs.features, "logits": outputs.logits, "probabilities": outputs.logits}
    if layer not in names:
        raise InputError(f"a layer is one of {', '.join(names)} or the number of a hidden state, but is {layer!r}")
    value = names[layer]
    if value is None or (layer != "features" and value.ndim != 2):
        shape = "none" if value is None else f"them as {list(value.shape)}"
        raise InputError(
            f"domains are compared in {layer} [batch, dim], but the model gives {shape}; name another layer, such as "
            "-1, the last hidden state, or return Outputs(features=…), what the head reads"
        )
    return value


def _averaged(values: Array, part: Batch) -> Array:
    """The mean over all axes between the first and the last."""
    counts = what_counts(part, values)
    if counts.ndim == 2:
        total = jnp.sum(jnp.where(counts[..., None], values, 0.0), axis=1)
        return total / jnp.maximum(jnp.sum(counts, axis=1, keepdims=True), 1)
    return values.mean(axis=tuple(range(1, values.ndim - 1)))
