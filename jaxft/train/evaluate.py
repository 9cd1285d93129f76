"""Predictions over a data set, and the figures that sum them up."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxft.errors import InputError
from jaxft.train.sharding import Placement, shard_batch
from jaxft.train.step import as_outputs
from jaxft.types import Batch, Params
from jaxft.weights import lift

_NOT_FOR_THE_MODEL = ("labels", "mask")
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
        inputs: Batch = {name: value for name, value in batch.items() if name not in _NOT_FOR_THE_MODEL}
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

    The program is traced once for each shape of batch, over all calls with the same ``apply``.

    Args:
        apply: ``apply(params, batch) -> Outputs``, or an array, taken as logits.
        params: what ``apply`` reads, structured weights included.
        batches: dicts of arrays; rows whose "mask" is False are left out.
        placement: the devices to spread each batch over.

    Raises:
        InputError: there is no batch.

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
    return np.concatenate(found)


def evaluate(
    apply: Callable[..., Any],
    params: Params,
    batches: Iterable[Batch],
    *,
    task: Literal["classify", "regress"] = "classify",
    placement: Placement | None = None,
) -> dict[str, float]:
    """Predicts and compares with the "labels" of the batches.

    Args:
        apply: ``apply(params, batch) -> Outputs``, or an array, taken as logits.
        params: what ``apply`` reads, structured weights included.
        batches: dicts of arrays with "labels"; rows whose "mask" is False are left out.
        task: which figures: see ``classification_metrics`` and ``regression_metrics``.
        placement: the devices to spread each batch over.

    Raises:
        InputError: there is no batch, one has no labels, a label is none of the classes, or ``task`` is another.
    """
    if task not in ("classify", "regress"):
        raise InputError(f"task is 'classify' or 'regress', but is {task!r}")
    logits, labels = [], []
    for found, batch in _predictions(apply, params, batches, placement):
        if "labels" not in batch:
            raise InputError("an evaluation compares with labels, but a batch has none: predict needs no labels")
        values = np.asarray(batch["labels"])
        logits.append(found)
        labels.append(values[_real(batch, len(values))])
    if not logits:
        raise InputError("there is nothing to evaluate: no batch was given")
    figures = classification_metrics if task == "classify" else regression_metrics
    return figures(np.concatenate(logits), np.concatenate(labels))


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy with its 95 % interval, macro F1, Matthews correlation and mean cross-entropy.

    F1 averages over the classes that occur among labels or predictions; the correlation is 0 when only one does.

    Args:
        logits: ``[rows, classes]``.
        labels: ``[rows]`` integers.

    Raises:
        InputError: there are no rows, or a label is none of the classes.

    Example:
        >>> figures = classification_metrics(np.eye(2)[[0, 1, 1, 1]] * 9.0, np.array([0, 1, 1, 0]))
        >>> {name: round(value, 3) for name, value in figures.items()}
        {'accuracy': 0.75, 'accuracy_low': 0.301, 'accuracy_high': 0.954, 'f1': 0.733, 'mcc': 0.577, 'loss': 2.25}

    References:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
        Matthews, "Comparison of the predicted and observed secondary structure of T4 phage lysozyme", 1975.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    classes = logits.shape[-1]
    if wrong := sorted(set(labels[(labels < 0) | (labels >= classes)].tolist())):
        raise InputError(f"labels are whole numbers from 0 to {classes - 1}, but there are {wrong[:3]}: check the data")
    predicted = logits.argmax(-1)
    correct = int((predicted == labels).sum())
    low, high = wilson_interval(correct, len(labels))
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return {
        "accuracy": correct / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "f1": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "mcc": float(matthews_corrcoef(labels, predicted)) if len(np.union1d(labels, predicted)) > 1 else 0.0,
        "loss": float(-np.take_along_axis(log_probability, labels[:, None].astype(np.int64), -1).mean()),
    }


def regression_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean squared error and Pearson's correlation, which is 0 when either side is constant.

    Args:
        logits: ``[rows]`` or ``[rows, 1]`` predicted values.
        labels: ``[rows]`` true values.

    Example:
        >>> regression_metrics(np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0]))
        {'mse': 0.333..., 'pearson': 0.981...}
    """
    predicted, true = logits.reshape(-1).astype(np.float64), labels.reshape(-1).astype(np.float64)
    if predicted.shape != true.shape:
        raise InputError(f"a regression predicts one value a row, but logits are {logits.shape}, labels {labels.shape}")
    a, b = predicted - predicted.mean(), true - true.mean()
    scale = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return {
        "mse": float(((predicted - true) ** 2).mean()),
        "pearson": float((a * b).sum() / scale) if scale > 0 else 0.0,
    }


def wilson_interval(correct: int, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a proportion, by default with 95 % coverage.

    Args:
        correct: successes.
        total: trials.
        z: quantile of the normal distribution.

    Raises:
        InputError: there are no trials.

    Example:
        >>> [round(bound, 4) for bound in wilson_interval(9, 10)]
        [0.5958, 0.9821]

    References:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    if total < 1:
        raise InputError("an interval needs at least one row")
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
