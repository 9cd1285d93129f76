"""What the tokens of a text are to each other: relations of queries, keys and values, and how far two are apart."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.layer_maps import attention_index
from jaxft.objectives.rows import hidden_state, mean_of_rows, what_counts
from jaxft.objectives.task import over
from jaxft.types import Array, Batch, Outputs


def scores(query: Array, key: Array) -> Array:
    """Q Kᵀ / √d of each head in float32, ``[batch, heads, length, length]``; keys may serve several heads each.

    Args:
        query: ``[batch, heads, length, d]``.
        key: ``[batch, kv_heads, length, d]``.

    Example:
        >>> scores(jnp.ones((1, 4, 2, 9)), jnp.ones((1, 2, 2, 9))).shape
        (1, 4, 2, 2)
    """
    repeated = jnp.repeat(key, query.shape[1] // key.shape[1], axis=1)
    found = jnp.einsum("bhqd,bhkd->bhqk", query.astype(jnp.float32), repeated.astype(jnp.float32), precision="highest")
    return found / math.sqrt(query.shape[-1])


def in_heads(x: Array, heads: int) -> Array:
    """The same numbers of each token in another number of heads, ``[batch, heads, length, dim]``.

    Raises:
        InputError: they cannot be split evenly.

    Example:
        >>> in_heads(jnp.ones((1, 2, 5, 6)), 4).shape
        (1, 4, 5, 3)
    """
    batch, old, length, dim = x.shape
    if old * dim % heads:
        raise InputError(f"{old * dim} numbers of a token cannot be split into {heads} relation heads")
    return x.transpose(0, 2, 1, 3).reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)


def relation_kl(student: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    """Mean divergence of relations, over the queries of each text, heads and rows, in float32.

    L = mean KL(softmax(X_t X_tᵀ / √d_t) ‖ softmax(X_s X_sᵀ / √d_s))

    Args:
        student: X_s, queries, keys or values ``[batch, heads, length, d_s]``.
        teacher: X_t, ``[batch, heads, length, d_t]``, without gradient; d_t may be another.
        mask: bools ``[batch, length]``; False leaves a token out.

    Returns:
        A scalar from 0 up; 0 when nothing counts.

    Raises:
        InputError: the heads or tokens differ in number.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
        >>> float(relation_kl(x, x)), float(relation_kl(jnp.zeros((2, 3, 4, 1)), x)) > 0
        (0.0, True)

    References:
        Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
        Transformers", 2020.
    """
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[:3] != teacher.shape[:3]:
        raise InputError(
            "relations are compared head by head and token by token, [batch, heads, length, dim], but they are "
            f"{list(student.shape)} and {list(teacher.shape)}"
        )
    teacher = jax.lax.stop_gradient(teacher)
    log_p, log_q = (_log_softmax(scores(x, x), mask) for x in (teacher, student))
    return _mean_kl(log_p, log_q, mask)


def attention_kl(student: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    """Mean divergence of attention, over the queries of each text, heads and rows, in float32.

    L = mean KL(A_t ‖ A_s)

    Args:
        student: A_s, probabilities ``[batch, heads, length, length]``.
        teacher: A_t, of the same shape, without gradient.
        mask: bools ``[batch, length]``; False leaves a token out.

    Returns:
        A scalar from 0 up; 0 when nothing counts.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> a, b = jnp.full((1, 1, 2, 2), 0.5), jnp.array([[[[0.25, 0.75], [0.5, 0.5]]]])
        >>> round(float(attention_kl(b, a)), 5)
        0.07192
    """
    _check_heads(student, teacher, mask)
    teacher = jax.lax.stop_gradient(teacher)
    log_p, log_q = (jnp.log(jnp.maximum(a.astype(jnp.float32), 1e-30)) for a in (teacher, student))
    return _mean_kl(log_p, log_q, mask)


def score_mse(student: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    """Mean squared error between attention before its softmax, over pairs of tokens, heads and rows, in float32.

    Args:
        student: ``[batch, heads, length, length]``, as from `scores`.
        teacher: of the same shape, without gradient.
        mask: bools ``[batch, length]``; False leaves a token out.

    Returns:
        A scalar; 0 when nothing counts.

    Raises:
        InputError: the shapes differ.

    Example:
        >>> float(score_mse(jnp.zeros((1, 2, 3, 3)), jnp.full((1, 2, 3, 3), 2.0)))
        4.0
    """
    _check_heads(student, teacher, mask)
    seen = jnp.ones((student.shape[0], student.shape[-1]), bool) if mask is None else mask
    both = (seen[:, None, :, None] & seen[:, None, None, :]).astype(jnp.float32)
    square = (student.astype(jnp.float32) - jax.lax.stop_gradient(teacher).astype(jnp.float32)) ** 2
    counted = jnp.sum(both, axis=(1, 2, 3))
    rows = jnp.sum(jnp.mean(jnp.where(both > 0, square, 0.0), axis=1), axis=(1, 2)) / jnp.maximum(counted, 1)
    return mean_of_rows(rows, counted > 0)


def attention_of(outputs: Outputs, layer: int, whose: str) -> Array:
    """The attention of a layer, by the number of the hidden state that it makes.

    Raises:
        InputError: there is no such layer.
    """
    found: Array = outputs.attentions[attention_index(outputs, layer, whose)]
    return found


def projections_of(outputs: Outputs, layer: int, whose: str) -> tuple[Array, Array, Array]:
    """Its queries, keys and values.

    Raises:
        InputError: there is no such layer, or the model does not give them.
    """
    place = attention_index(outputs, layer, whose)
    if outputs.projections is None:
        raise InputError(f"the {whose} gives no queries, keys and values: take a model of load_model")
    query, key, value = outputs.projections[place]
    return query, key, value


def text_of(part: Batch, outputs: Outputs) -> Array:
    """Which of the tokens of a view count, ``[batch, length]``."""
    states = hidden_state(outputs, -1)
    return over(what_counts(part, states), states.shape[:2])


def _check_heads(student: Array, teacher: Array, mask: Array | None) -> None:
    if student.ndim != 4 or student.shape != teacher.shape:
        raise InputError(
            "attention is compared head by head, [batch, heads, queries, keys], but that of the student is "
            f"{list(student.shape)} and that of the teacher {list(teacher.shape)}; minilm2 compares relations in heads "
            "of its own, whatever the number of the models'"
        )
    if mask is not None and mask.shape != (student.shape[0], student.shape[-1]):
        raise InputError(
            f"attention is over {student.shape[-1]} places, but the tokens are {list(mask.shape)}: a learned prompt "
            "takes the others; minilm2 compares the tokens alone"
        )


def _log_softmax(values: Array, mask: Array | None) -> Array:
    """Over the keys that count; others have the log-probability −1e30."""
    if mask is None:
        return jax.nn.log_softmax(values)
    seen = mask[:, None, None, :]
    return jnp.where(seen, jax.nn.log_softmax(jnp.where(seen, values, -1e30)), -1e30)


def _mean_kl(log_p: Array, log_q: Array, mask: Array | None) -> Array:
    apart = jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1), axis=1)
    counts = jnp.ones(apart.shape, bool) if mask is None else mask
    number = jnp.sum(counts, axis=1)
    rows = jnp.sum(jnp.where(counts, apart, 0.0), axis=1) / jnp.maximum(number, 1)
    return mean_of_rows(rows, number > 0)
