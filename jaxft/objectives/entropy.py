"""Predictions that are sure: the entropy of each row, and of all rows together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.layer import layer_of
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective


def entropy_of_rows(logits: Array) -> Array:
    """H_i = −Σ_c p_ic log p_ic of each row in float32, ``[batch]``; a class that is ruled out adds nothing.

    Args:
        logits: ``[batch, classes]``.

    Example:
        >>> [round(abs(float(h)), 4) for h in entropy_of_rows(jnp.array([[0.0, 0.0], [0.0, -jnp.inf]]))]
        [0.6931, 0.0]
    """
    log_p = jnp.maximum(jax.nn.log_softmax(logits.astype(jnp.float32)), -1e30)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def entropy(logits: Array, *, mask: Array | None = None) -> Array:
    """Mean entropy of predictions, in float32.

    L = E_i[−Σ_c p_ic log p_ic]

    Args:
        logits: ``[batch, classes]``.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar, zero when no row counts.

    Raises:
        InputError: the logits are no matrix, or the mask does not fit.

    Example:
        >>> round(float(entropy(jnp.zeros((3, 4)))), 4)
        1.3863

    References:
        Grandvalet and Bengio, "Semi-supervised Learning by Entropy Minimization", 2004.
    """
    z, counts = kept_logits(logits, mask, "entropy")
    return mean_of_rows(entropy_of_rows(z), counts)


def information_maximisation(logits: Array, *, mask: Array | None = None) -> Array:
    """Predictions that are sure of each row and different over the rows, in float32.

    L = E[H(p)] − H(E[p])

    Args:
        logits: of p, ``[batch, classes]``.
        mask: bools ``[batch]``; False leaves a row out.

    Returns:
        A scalar, at most zero and at least −log C; zero when nothing counts.

    Raises:
        InputError: the logits are not ``[batch, classes]``, or the mask does not fit.

    Example:
        >>> round(float(information_maximisation(jnp.array([[90.0, 0.0], [0.0, 90.0]]))), 4)
        -0.6931

    References:
        Krause et al., "Discriminative Clustering by Regularized Information Maximization", 2010.
        Liang et al., "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain
        Adaptation", 2020.
    """
    z, counts = kept_logits(logits, mask, "information maximisation")
    p = jnp.where(counts[:, None], jax.nn.softmax(z), 0.0)
    mean = jnp.sum(p, axis=0) / jnp.maximum(jnp.sum(counts), 1)
    return mean_of_rows(entropy_of_rows(z), counts) + jnp.sum(mean * jnp.log(jnp.maximum(mean, 1e-30)))


def kept_logits(logits: Array, mask: Array | None, name: str) -> tuple[Array, Array]:
    """The logits in float32, zero in rows that do not count, and which rows count.

    Raises:
        InputError: the logits are no matrix, or the mask does not fit.
    """
    if logits.ndim != 2:
        raise InputError(f"{name} expects logits [batch, classes], but they are {list(logits.shape)}")
    counts = rows_that_count(logits, mask)
    return jnp.where(counts[:, None], logits.astype(jnp.float32), 0.0), counts


def entropy_minimisation(view: str = "target") -> Objective:
    """Makes the model sure of what it predicts for rows without labels.

    L = E[H(p)]

    With ``adaptation=ft.norms()`` and ``statistics`` of the batch this is Tent, fully test-time adaptation.

    Args:
        view: whose predictions; its labels are not read.

    Raises:
        InputError: the view is not in the batch, or the model gives no logits ``[batch, classes]``.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), sure=(entropy_minimisation("target"), 0.1))

    References:
        Grandvalet and Bengio, "Semi-supervised Learning by Entropy Minimization", 2004. Wang et al., "Tent: Fully
        Test-time Adaptation by Entropy Minimization", 2021.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        logits, counts = layer_of(context, view, "logits")
        return entropy(logits, mask=counts), (memory, {})

    return Objective(no_state, apply)


def infomax(view: str = "target") -> Objective:
    """Makes the model sure of each row and its predictions different over the rows.

    L = E[H(p)] − H(E[p])

    Args:
        view: whose predictions; its labels are not read.

    Raises:
        InputError: the view is not in the batch, or the model gives no logits ``[batch, classes]``.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), sure=(infomax("target"), 0.1))

    References:
        Krause et al., "Discriminative Clustering by Regularized Information Maximization", 2010.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        logits, counts = layer_of(context, view, "logits")
        return information_maximisation(logits, mask=counts), (memory, {})

    return Objective(no_state, apply)
