"""The small nets of adversarial methods, and what tells two domains apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.rows import rows_that_count
from jaxft.types import Array, Key, Weights

HIDDEN = 100
"""Units of each hidden layer by default."""


def init_mlp(key: Key, sizes: Sequence[int]) -> Weights:
    """Weights of a net of dense layers with ReLU between them, as He et al. draw them; biases are zero.

    Args:
        key: of the draw.
        sizes: of the input, of each hidden layer, and of the output.

    Raises:
        InputError: a size is not a whole number from 1 up.

    Example:
        >>> [layer["kernel"].shape for layer in init_mlp(jax.random.key(0), (4, 100, 1))]
        [(4, 100), (100, 1)]

    References:
        He et al., "Delving Deep into Rectifiers", 2015.
    """
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"the layers of a discriminator have whole numbers of units from 1 up, not {size!r}")
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"kernel": jax.random.normal(key, (before, after)) * math.sqrt(2 / before), "bias": jnp.zeros(after)}
        for key, before, after in zip(keys, sizes, sizes[1:], strict=False)
    ]


def apply_mlp(weights: Weights, x: Array) -> Array:
    """The output of such a net, ``[batch, outputs]`` in float32.

    Args:
        weights: of `init_mlp`.
        x: ``[batch, inputs]``.

    Example:
        >>> apply_mlp(init_mlp(jax.random.key(0), (4, 3, 1)), jnp.ones((2, 4))).shape
        (2, 1)
    """
    x = x.astype(jnp.float32)
    for place, layer in enumerate(weights):
        x = x @ layer["kernel"] + layer["bias"]
        x = x if place == len(weights) - 1 else jax.nn.relu(x)
    return x


def domain_cross_entropy(
    source: Array,
    target: Array,
    *,
    source_mask: Array | None = None,
    target_mask: Array | None = None,
    source_weights: Array | None = None,
    target_weights: Array | None = None,
) -> Array:
    """Binary cross-entropy of telling the source (1) from the target (0), each domain one half, in float32.

    L = ½ (mean −log σ(z_s) + mean −log σ(−z_t))

    Args:
        source: logits z_s ``[n]``.
        target: logits z_t ``[m]``.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.
        source_weights: of the rows in their domain's mean, ``[n]``; all equal if None.
        target_weights: likewise ``[m]``.

    Returns:
        A scalar; a domain of which no row counts adds nothing.

    Raises:
        InputError: logits that are not ``[rows]``, or masks and weights that do not fit.

    Example:
        >>> round(float(domain_cross_entropy(jnp.zeros(2), jnp.zeros(3))), 4)
        0.6931

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", 2016.
    """
    if source.ndim != 1 or target.ndim != 1:
        raise InputError(
            "domains are told apart by one logit a row, [n] and [m], but they are "
            f"{list(source.shape)} and {list(target.shape)}"
        )

    def mean(logits: Array, sign: int, mask: Array | None, weights: Array | None) -> Array:
        counts = rows_that_count(logits, mask)
        if weights is not None and weights.shape != logits.shape:
            raise InputError(f"expected a weight for each of {len(logits)} rows, but got {list(weights.shape)}")
        # What does not count is set aside before anything is computed of it: even its NaN must not reach a gradient.
        losses = jax.nn.softplus(sign * jnp.where(counts, logits.astype(jnp.float32), 0.0))
        w = jnp.where(counts, 1.0 if weights is None else weights.astype(jnp.float32), 0.0)
        total = jnp.sum(w)
        return jnp.where(total == 0, 0.0, jnp.sum(w * losses) / jnp.where(total == 0, 1.0, total))

    return 0.5 * (mean(source, -1, source_mask, source_weights) + mean(target, 1, target_mask, target_weights))


def domain_accuracy(source: Array, target: Array, source_mask: Array, target_mask: Array) -> Array:
    """The share of rows told right, each domain one half; 0.5 is confusion."""

    def share(right: Array, mask: Array) -> Array:
        return jnp.sum(right & mask) / jnp.maximum(jnp.sum(mask), 1)

    return 0.5 * (share(source > 0, source_mask) + share(target <= 0, target_mask))
