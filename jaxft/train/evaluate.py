"""Predictions over a data set, and the figures that sum them up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxft.errors import InputError
from jaxft.metrics import classification_metrics, language_metrics, regression_metrics, tagging_metrics
from jaxft.train.forward import as_outputs
from jaxft.train.sharding import Placement, shard_batch
from jaxft.train.token_losses import IGNORED, token_losses
from jaxft.types import Batch, Params, is_input
from jaxft.weights import lift

Task = Literal["classify", "regress", "tag", "lm", "seq2seq"]

_AHEAD = 2


@lru_cache(maxsize=16)
def _logits(apply: Callable[..., Any], mesh: Mesh | None) -> Callable[[Params, Batch], jax.Array]:
    """The compiled forward pass; on a mesh every process receives all rows."""
    lifted = lift(apply)
    everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda params, batch: as_outputs(lifted(params, batch)).logits, out_shardings=everywhere)


def _predictions(
    apply: Callable[..., Any], params: Params, batches: Iterable[Batch], placement: Placement | None
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Logits of the real rows and their batch; a few batches are under way while one is read."""
    waiting: deque[tuple[jax.Array, Batch]] = deque()
    forward = _logits(apply, None if placement is None else placement.mesh)

    def read() -> tuple[np.ndarray, Batch]:
        logits, batch = waiting.popleft()
        return np.asarray(logits)[_real(batch, logits.shape[0])], batch

    for batch in batches:
        inputs: Batch = {name: value for name, value in batch.items() if is_input(name)}
        waiting.append((forward(params, inputs if placement is None else shard_batch(inputs, placement)), batch))
        if len(waiting) > _AHEAD:
            yield read()
    while waiting:
        yield read()


def _real(batch: Batch, rows: int) -> np.ndarray:
    return np.asarray(batch["mask"], bool) if "mask" in batch else np.ones(rows, bool)


def predict(
    apply: Callable[..., Any], params: Params, batches: Iterable[Batch], *, placement: Placement | None = None
) -> np.ndarray:
    """Returns the logits of every real row, in order, on the host.

    Logits of tokens are padded to the longest batch with half the lowest finite number: no argmax picks it, and the sum
    of two is finite. The program is traced once for each shape of batch, over all calls with the same ``apply``.

    Args:
        apply: ``apply(params, batch) -> Outputs``, or an array, taken as logits.
        params: what ``apply`` reads, structured weights included.
        batches: dicts of arrays; rows whose "mask" is False are left out.
        placement: the devices to spread each batch over.

    Raises:
        InputError: there is no batch, or logits are NaN.

    Example:
        >>> from jaxft.types import Outputs
        >>> apply = lambda params, batch: Outputs(logits=batch["x"] * params)
        >>> batch = {"x": np.ones((3, 2)), "mask": np.array([True, True, False])}
        >>> predict(apply, np.float32(2.0), [batch]).shape
        (2, 2)
    """
    found = [logits for logits, _ in _predictions(apply, params, batches, placement)]
    if not found:
        raise InputError("there is nothing to predict: no batch was given")
    return _checked(_stack(found))


def _checked(logits: np.ndarray) -> np.ndarray:
    """Refuses logits that say nothing."""
    rows = np.flatnonzero(np.isnan(logits).reshape(len(logits), -1).any(axis=1)).tolist()
    if rows:
        raise InputError(
            f"the model's logits are NaN in {len(rows)} of {len(logits)} rows, the first of them row {rows[0] + 1}: "
            "its params hold NaN, or its activations overflow in a narrow type"
        )
    return logits


def _stack(parts: Sequence[np.ndarray], fill: float | None = None) -> np.ndarray:
    """All rows in one array; an axis of tokens, the second, is padded to the longest, by default as in ``predict``."""
    longest = max(part.shape[1] if part.ndim > 1 else 0 for part in parts)

    def padded(part: np.ndarray) -> np.ndarray:
        missing = longest - part.shape[1] if part.ndim > 1 else 0
        if not missing:
            return part
        widths = [(0, 0), (0, missing), *((0, 0) for _ in part.shape[2:])]
        return np.pad(part, widths, constant_values=float(jnp.finfo(part.dtype).min) / 2 if fill is None else fill)

    return np.concatenate([padded(part) for part in parts])


def evaluate(
    apply: Callable[..., Any],
    params: Params,
    batches: Iterable[Batch],
    *,
    task: Task = "classify",
    names: Sequence[str] | None = None,
    placement: Placement | None = None,
) -> dict[str, float]:
    """Predicts and compares with the "labels" of the batches.

    Args:
        apply: ``apply(params, batch) -> Outputs``, or an array, taken as logits.
        params: what ``apply`` reads, structured weights included.
        batches: dicts of arrays with "labels"; rows whose "mask" is False are left out.
        task: which figures of ``jaxft.metrics``: "classify", "regress", "tag", or for next tokens "lm" and, given the
            true tokens before each, "seq2seq". What compares strings starts from ``predict`` or from generated text.
        names: of the tags, for "tag".
        placement: the devices to spread each batch over.

    Raises:
        InputError: there is no batch, one has no labels, a label is none of the classes, ``task`` is another, or
            "tag" has no names, or another task has.

    Example:
        >>> batch = {"x": np.float32([[2, 1], [0, 1], [0, 3]]), "labels": np.array([0, 1, 0])}
        >>> round(evaluate(lambda params, batch: batch["x"], None, [batch])["accuracy"], 3)
        0.667
    """
    if task not in get_args(Task):
        raise InputError(f"task is one of {', '.join(map(repr, get_args(Task)))}, but is {task!r}")
    if task == "tag" and names is None:
        raise InputError("tags are compared by their names: pass names, one for each tag of the model")
    if task != "tag" and names is not None:
        raise InputError(f"names are those of tags, for task='tag', but the task is {task!r}: leave them out")
    if task in ("lm", "seq2seq"):
        return language_metrics(*token_losses(apply, params, batches, placement=placement))
    logits, labels = _compared(apply, params, batches, placement)
    if task == "tag":
        return tagging_metrics(logits, labels, names or ())
    return classification_metrics(logits, labels) if task == "classify" else regression_metrics(logits, labels)


def _compared(
    apply: Callable[..., Any], params: Params, batches: Iterable[Batch], placement: Placement | None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of the real rows."""
    logits, labels = [], []
    for found, batch in _predictions(apply, params, batches, placement):
        if "labels" not in batch:
            raise InputError("an evaluation compares with labels, but a batch has none: predict needs no labels")
        values = np.asarray(batch["labels"])
        logits.append(found)
        labels.append(values[_real(batch, len(values))])
    if not logits:
        raise InputError("there is nothing to evaluate: no batch was given")
    return _stack(logits), _stack(labels, IGNORED)
