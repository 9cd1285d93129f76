"""Generalised knowledge distillation: between a teacher's prediction and a student's lies a family of divergences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.objectives.kl import compared
from jaxft.objectives.knowledge_distillation import of_predictions
from jaxft.objectives.rows import mean_of_rows
from jaxft.objectives.teachers import Teacher, positive
from jaxft.types import Array, Objective


def generalised_jsd(
    student: Array,
    teacher: Array,
    *,
    beta: float | Array = 0.5,
    temperature: float | Array = 1.0,
    mask: Array | None = None,
) -> Array:
    """Generalised Jensen–Shannon divergence between two predictions, in float32; no gradient reaches the teacher.

    L = mean β KL(T ‖ M) + (1−β) KL(S ‖ M),  M = β T + (1−β) S,  T, S = softmax(z / temperature)

    Its ends are taken as the limits of their directions: β = 0 is KL(T ‖ S), forward, and β = 1 is KL(S ‖ T), reverse.
    There is no factor of the temperature's square, as in the paper.

    Args:
        student: logits, ``[…, classes]``.
        teacher: logits, of the same shape.
        beta: β in [0, 1]; may be traced.
        temperature: of both, above 0; may be traced.
        mask: bools over the leading axes; False leaves a row or token out.

    Returns:
        A scalar from 0 up; 0 when student and teacher agree, or nothing counts; NaN for a traced β outside [0, 1].

    Raises:
        InputError: the shapes differ, the mask does not fit, β is outside [0, 1] or the temperature not above 0.

    Example:
        >>> z = jnp.array([[2.0, 0.0]])
        >>> [round(float(generalised_jsd(jnp.zeros((1, 2)), z, beta=beta)), 3) for beta in (0.0, 0.5, 1.0)]
        [0.328, 0.09, 0.434]

    References:
        Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", 2023.
    """
    positive(temperature, "the temperature of distillation")
    known = isinstance(beta, int | float | np.number)
    if known and not 0 <= beta <= 1:
        raise InputError(f"beta of the generalised divergence is between 0 and 1, but is {beta}")
    log_s, log_t, counts = compared(student, jax.lax.stop_gradient(teacher), mask, temperature=temperature)
    return mean_of_rows(_of_log_probabilities(log_s, log_t, beta, known=known), counts)


def _of_log_probabilities(log_s: Array, log_t: Array, beta: Any, *, known: bool) -> Array:
    if known and beta in (0, 1):
        return _kl(log_s, log_t) if beta else _kl(log_t, log_s)
    inner = jnp.clip(beta, 1e-6, 1 - 1e-6)
    log_m = jnp.logaddexp(jnp.log(inner) + log_t, jnp.log1p(-inner) + log_s)
    mixed = inner * _kl(log_t, log_m) + (1 - inner) * _kl(log_s, log_m)
    if known:
        return mixed
    ends = jnp.where(beta == 0, _kl(log_t, log_s), jnp.where(beta == 1, _kl(log_s, log_t), mixed))
    return jnp.where((beta >= 0) & (beta <= 1), ends, jnp.nan)


def _kl(log_p: Array, log_q: Array) -> Array:
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def gkd(
    teacher: Teacher,
    view: str | None = None,
    *,
    beta: float | Array = 0.5,
    temperature: float | Array = 1.0,
) -> Objective:
    """Holds the student's prediction of every token near the teacher's: GKD.

    L = mean β KL(T ‖ M) + (1−β) KL(S ‖ M),  M = β T + (1−β) S

    Off-policy the texts are those of the data. On-policy they are the student's own, which no gradient reaches: let
    `distil.on_policy` replace a share of the batches by what the student writes now. The labels are not read, but where
    there are labels of tokens those of -100, such as a prompt's, do not count.

    Args:
        teacher: a model with the student's tokenizer, an `ensemble`, or None for the columns that `distil.remember`
            wrote.
        view: name of the part of the batch.
        beta: β in [0, 1]; 0 is KL(T ‖ S), as of ordinary distillation, 1 is KL(S ‖ T). May be traced.
        temperature: of both, above 0; may be traced.

    Raises:
        InputError: β or the temperature is out of range; the teacher is none; another vocabulary.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.small_mlp(4, num_labels=3, hidden=(50,))
        >>> objective = ft.combine(soft=ft.gkd(teacher, beta=0.1))

    References:
        Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", 2023.
    """
    positive(temperature, "the temperature of distillation")

    def loss(student: Array, target: Array, labels: Array | None, counts: Array) -> Array:
        del labels
        return generalised_jsd(student, target, beta=beta, temperature=temperature, mask=counts)

    return of_predictions(teacher, view, loss, temperature)
