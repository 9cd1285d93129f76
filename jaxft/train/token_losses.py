"""Losses of the tokens of a data set: a vocabulary of logits for every token never leaves the devices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxft.errors import InputError
from jaxft.objectives import negative_log_likelihood
from jaxft.train.forward import as_outputs
from jaxft.train.sharding import Placement, shard_batch
from jaxft.types import Array, Batch, Params, is_input
from jaxft.weights import lift

IGNORED = -100
_AHEAD = 2


class TokenLosses(NamedTuple):
    """Sums over the tokens that count.

    Attributes:
        nll: −log p, in nats.
        tokens: how many count.
        correct: how many of them had the largest logit.
    """

    nll: float
    tokens: int
    correct: int


def token_losses(
    apply: Callable[..., Any], params: Params, batches: Iterable[Batch], *, placement: Placement | None = None
) -> TokenLosses:
    """Sums −log p of every label of tokens, with which ``jaxft.metrics.language_metrics`` gives the perplexity.

    Reads ``token_logits``, or ``logits`` where a model has no others. Labels stand where their logits do, already
    shifted. The program is traced once for each shape of batch, over all calls with the same ``apply``.

    Args:
        apply: ``apply(params, batch) -> Outputs``, or an array, taken as logits ``[batch, length, vocabulary]``.
        params: what ``apply`` reads, structured weights included.
        batches: dicts of arrays with "labels" ``[batch, length]``, -100 where nothing counts; rows whose "mask" is
            False are left out.
        placement: the devices to spread each batch over.

    Raises:
        InputError: there is no batch, one has no labels, their shape is not that of the tokens, or a label is no token.

    Example:
        >>> batch = {"x": np.zeros((1, 3, 4), np.float32), "labels": np.array([[0, 2, -100]])}
        >>> token_losses(lambda params, batch: batch["x"], None, [batch])
        TokenLosses(nll=2.772..., tokens=2, correct=1)
    """
    waiting: deque[tuple[Array, ...]] = deque()
    sums = _sums(apply, None if placement is None else placement.mesh)
    nll, tokens, correct = 0.0, 0, 0

    def read() -> None:
        nonlocal nll, tokens, correct
        lost, counted, right, unknown = waiting.popleft()
        _check_known(int(unknown))
        nll, tokens, correct = nll + float(lost), tokens + int(counted), correct + int(right)

    for batch in batches:
        whole = _whole(batch)
        waiting.append(sums(params, whole if placement is None else shard_batch(whole, placement)))
        if len(waiting) > _AHEAD:
            read()
    if not waiting:
        raise InputError("there is nothing to evaluate: no batch was given")
    while waiting:
        read()
    return TokenLosses(nll, tokens, correct)


def label_losses(
    apply: Callable[..., Any], params: Params, batches: Iterable[Batch]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each batch −log p of every label of its real rows, zero where nothing counts, and the labels.

    What :func:`token_losses` sums, one number a label, on the host.

    Args:
        apply: ``apply(params, batch) -> Outputs``, or an array, taken as logits ``[batch, length, vocabulary]``.
        params: what ``apply`` reads, structured weights included.
        batches: dicts of arrays with "labels" ``[batch, length]``, -100 where nothing counts; rows whose "mask" is
            False are left out.

    Raises:
        InputError: a batch has no labels, their shape is not that of the tokens, or a label is no token.

    Example:
        >>> batch = {"x": np.zeros((1, 3, 4), np.float32), "labels": np.array([[0, 2, -100]])}
        >>> [losses.round(3).tolist() for losses, _ in label_losses(lambda params, batch: batch["x"], None, [batch])]
        [[[1.386..., 1.386..., 0.0]]]
    """
    compiled = _by_label(apply)
    for batch in batches:
        whole = _whole(batch)
        losses, unknown = compiled(params, whole)
        _check_known(int(unknown))
        real = np.asarray(whole["mask"], bool)
        yield np.asarray(losses)[real], np.asarray(batch["labels"])[real]


def _whole(batch: Batch) -> Batch:
    if "labels" not in batch:
        raise InputError(f"losses of tokens need labels, but a batch has only {sorted(batch)}")
    return {"mask": np.ones(len(batch["labels"]), bool), **batch}


def _check_known(unknown: int) -> None:
    if unknown:
        raise InputError(
            f"a label is a token of the model, or {IGNORED} where nothing counts, but {unknown} are neither"
        )


@lru_cache(maxsize=16)
def _by_label(apply: Callable[..., Any]) -> Callable[[Params, Batch], tuple[Array, Array]]:
    """The compiled losses of a batch."""
    lifted = lift(apply)

    def losses(params: Params, batch: Batch) -> tuple[Array, Array]:
        found = _compared(lifted, params, batch)
        return found.nll, found.unknown

    return jax.jit(losses)


@lru_cache(maxsize=16)
def _sums(apply: Callable[..., Any], mesh: Mesh | None) -> Callable[[Params, Batch], tuple[Array, ...]]:
    """The compiled sums over a batch; on a mesh every process receives them."""
    lifted = lift(apply)

    def sums(params: Params, batch: Batch) -> tuple[Array, ...]:
        found = _compared(lifted, params, batch)
        right = found.counts & (jnp.argmax(found.logits, axis=-1) == jnp.asarray(batch["labels"]))
        return jnp.sum(found.nll), jnp.sum(found.counts), jnp.sum(right), found.unknown

    return jax.jit(sums, out_shardings=None if mesh is None else NamedSharding(mesh, PartitionSpec()))


class _Compared(NamedTuple):
    """Of a batch: its logits, −log p of each label, which count, and how many of them are no token."""

    logits: Array
    nll: Array
    counts: Array
    unknown: Array


def _compared(apply: Callable[..., Any], params: Params, batch: Batch) -> _Compared:
    outputs = as_outputs(apply(params, {name: value for name, value in batch.items() if is_input(name)}))
    logits = outputs.logits if outputs.token_logits is None else outputs.token_logits
    labels, mask = jnp.asarray(batch["labels"]), jnp.asarray(batch["mask"], bool)
    if logits is None or logits.ndim != 3 or logits.shape[:-1] != labels.shape:
        found = "none" if logits is None else list(logits.shape)
        raise InputError(
            "losses of tokens expect logits [batch, length, vocabulary] and labels [batch, length], but logits "
            f"are {found} and labels {list(labels.shape)}"
        )
    counts = (labels != IGNORED) & mask[:, None]
    unknown = counts & ((labels < 0) | (labels >= logits.shape[-1]))
    return _Compared(logits, negative_log_likelihood(logits, labels, counts), counts, jnp.sum(unknown))
