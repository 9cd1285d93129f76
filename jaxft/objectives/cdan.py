"""Conditional adversarial adaptation: the discriminator reads features together with predictions."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.discriminator import HIDDEN, apply_mlp, domain_accuracy, domain_cross_entropy, init_mlp
from jaxft.objectives.entropy import entropy_of_rows
from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.reversal import Scale, check_scale, reverse_gradient, scale_at, told
from jaxft.objectives.rows import rows_that_count
from jaxft.types import Array, Context, Frozen, Key, Memory, Metrics, Objective, Weights

LARGEST, DIM = 4096, 1024
"""The largest product of sizes that is formed as it is, and the size of a random map of larger ones."""


def multilinear_map(features: Array, probabilities: Array) -> Array:
    """vec(f ⊗ g) of each row, ``[batch, dim · classes]``.

    Args:
        features: f, ``[batch, dim]``.
        probabilities: g, ``[batch, classes]``.

    Raises:
        InputError: they differ in rows.

    Example:
        >>> multilinear_map(jnp.array([[1.0, 2.0]]), jnp.array([[0.25, 0.75]])).tolist()
        [[0.25, 0.75, 0.5, 1.5]]

    References:
        Long et al., "Conditional Adversarial Domain Adaptation", 2018.
    """
    if features.ndim != 2 or probabilities.ndim != 2 or len(features) != len(probabilities):
        raise InputError(
            "a multilinear map expects features [batch, dim] and probabilities [batch, classes], but they are "
            f"{list(features.shape)} and {list(probabilities.shape)}"
        )
    return (features[:, :, None] * probabilities[:, None, :]).reshape(
        len(features), features.shape[1] * probabilities.shape[1]
    )


def randomized_map(features: Array, probabilities: Array, maps: Frozen) -> Array:
    """(f R_f) ⊙ (g R_g) / √d: the inner products of vec(f ⊗ g) in expectation, in d dimensions.

    Args:
        features: f, ``[batch, dim]``.
        probabilities: g, ``[batch, classes]``.
        maps: ``{"features": R_f [dim, d], "probabilities": R_g [classes, d]}`` of standard normal numbers.

    Example:
        >>> maps = {"features": jnp.ones((2, 4)), "probabilities": jnp.ones((2, 4))}
        >>> randomized_map(jnp.array([[1.0, 2.0]]), jnp.array([[0.25, 0.75]]), maps).tolist()
        [[1.5, 1.5, 1.5, 1.5]]

    References:
        Long et al., "Conditional Adversarial Domain Adaptation", 2018.
    """
    product = (features @ maps["features"]) * (probabilities @ maps["probabilities"])
    return product / math.sqrt(product.shape[1])


def certainty_weights(logits: Array, *, mask: Array | None = None) -> Array:
    """w = 1 + e^{−H(p)} of each row, of mean one over those that count; constants to gradients.

    Args:
        logits: ``[batch, classes]``.
        mask: bools ``[batch]``; a row that is left out has the weight zero.

    Example:
        >>> [round(float(w), 3) for w in certainty_weights(jnp.array([[100.0, 0.0], [0.0, 0.0]]))]
        [1.143, 0.857]

    References:
        Long et al., "Conditional Adversarial Domain Adaptation", 2018.
    """
    counts = rows_that_count(logits, mask)
    kept = jnp.where(counts[:, None], logits.astype(jnp.float32), 0.0)
    w = jnp.where(counts, 1 + jnp.exp(-entropy_of_rows(kept)), 0.0)
    total = jnp.sum(w)
    return jax.lax.stop_gradient(w * jnp.sum(counts) / jnp.where(total > 0, total, 1.0))


def cdan(
    layer: Layer = "features",
    *,
    source: str = "source",
    target: str = "target",
    scale: Scale = 1.0,
    entropy: bool = False,
    hidden: int = HIDDEN,
) -> Objective:
    """A discriminator of features and predictions together, whose gradient comes back to the features reversed.

    L = ½ (Σ w −log σ(D(R(T_s))) / Σ w + Σ w −log σ(−D(R(T_t))) / Σ w),  T = vec(f ⊗ g) of features f and softmax g

    Where f ⊗ g has more than 4,096 numbers, T = (f R_f) ⊙ (g R_g) / √d with fixed random maps of d = 1024. No gradient
    goes through g. With ``entropy`` rows that are predicted with certainty weigh more, w = 1 + e^{−H(g)}: CDAN+E.

    Args:
        layer: f: "features" or the number of a hidden state.
        source: name of a view.
        target: name of a view; labels are read of neither.
        scale: λ of the reversal, as in `dann`.
        entropy: whether certain rows weigh more.
        hidden: units of each hidden layer of the discriminator.

    Raises:
        InputError: as `dann`; the model gives no logits ``[batch, classes]``.

    Example:
        >>> import jaxft as ft
        >>> domain = cdan(scale=ft.reversal_schedule(600), entropy=True)
        >>> objective = ft.combine(task=ft.cross_entropy("source"), domain=domain)

    References:
        Long et al., "Conditional Adversarial Domain Adaptation", 2018.
    """
    check_scale(scale, "cdan")

    def read(context: Context) -> list[tuple[Array, Array, Array]]:
        """Features, logits and which rows count, of each domain."""
        both = [(*layer_of(context, view, layer), layer_of(context, view, "logits")[0]) for view in (source, target)]
        check_domains(both[0][0], both[1][0], "cdan")
        return [(features, jax.lax.stop_gradient(logits), counts) for features, counts, logits in both]

    def init(key: Key, context: Context) -> tuple[Frozen, Weights, tuple[()]]:
        features, predicted, _ = read(context)[0]
        map_key, other_key, key = jax.random.split(key, 3)
        size, classes = features.shape[1], predicted.shape[1]
        if size * classes <= LARGEST:
            return (), init_mlp(key, (size * classes, hidden, hidden, 1)), ()
        maps = {
            "features": jax.random.normal(map_key, (size, DIM)),
            "probabilities": jax.random.normal(other_key, (classes, DIM)),
        }
        return maps, init_mlp(key, (DIM, hidden, hidden, 1)), ()

    def apply(
        frozen: Frozen, weights: Weights, memory: Memory, context: Context
    ) -> tuple[Array, tuple[Memory, Metrics]]:
        value, logits, counts, certain = scale_at(scale, context.step), [], [], []
        for features, predicted, rows in read(context):
            f, g = reverse_gradient(features, value), jax.nn.softmax(predicted)
            joint = randomized_map(f, g, frozen) if frozen else multilinear_map(f, g)
            logits.append(apply_mlp(weights, joint)[:, 0])
            counts.append(rows)
            certain.append(certainty_weights(predicted, mask=rows) if entropy else None)
        loss = domain_cross_entropy(
            *logits,
            source_mask=counts[0],
            target_mask=counts[1],
            source_weights=certain[0],
            target_weights=certain[1],
        )
        return told(loss, value), (memory, {"scale": value, "accuracy": domain_accuracy(*logits, *counts)})

    return Objective(init, apply)
