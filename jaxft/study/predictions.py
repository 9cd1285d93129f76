"""What a run says of held-out rows inside the program, and the figures made of it on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.metrics import classification_metrics, language_metrics, regression_metrics
from jaxft.objectives import negative_log_likelihood
from jaxft.train.forward import as_outputs
from jaxft.types import Array, Params, is_input

_IGNORED = -100
_ROWS = 128


def predict_rows(apply: Callable[..., Any], params: Params, columns: Mapping[str, Any], task: str) -> Any:
    """Logits of all rows, ``[rows, …]``, or for tokens the sums (nats, tokens that count, of them right).

    Args:
        apply: ``apply(params, batch) -> Outputs``.
        params: what it reads.
        columns: name -> ``[rows, …]``, "labels" among them.
        task: "classify", "regress", "lm" or "seq2seq".
    """
    count = jax.tree.leaves(columns)[0].shape[0]
    size = rows_a_batch(count)
    batches = -(-count // size)
    rows = (jnp.arange(batches * size) % count).reshape(batches, size)
    sums_up = task in ("lm", "seq2seq")

    def one(rows_and_real: tuple[Array, Array]) -> Any:
        rows, real = rows_and_real
        batch = {name: jax.tree.map(lambda column: column[rows], column) for name, column in columns.items()}
        inputs = {name: value for name, value in batch.items() if is_input(name)}
        outputs = as_outputs(apply(params, inputs))
        return _token_sums(outputs, batch["labels"], real) if sums_up else outputs.logits

    real = (jnp.arange(batches * size) < count).reshape(batches, size)
    found = jax.lax.map(one, (rows, real))
    if sums_up:
        return jnp.sum(found, axis=0)
    return found.reshape(batches * size, *found.shape[2:])[:count]


def rows_a_batch(count: int) -> int:
    """The rows that are predicted together of so many."""
    return min(count, _ROWS)


def _token_sums(outputs: Any, labels: Array, real: Array) -> Array:
    logits = outputs.logits if outputs.token_logits is None else outputs.token_logits
    counts = (labels != _IGNORED) & real[:, None]
    nll = jnp.sum(negative_log_likelihood(logits, labels, counts))
    right = jnp.sum(counts & (jnp.argmax(logits, axis=-1) == labels))
    return jnp.stack([nll, jnp.sum(counts), right]).astype(jnp.float32)


def figures(predictions: np.ndarray, labels: np.ndarray, task: str) -> dict[str, float | None]:
    """The figures of one evaluation; None in place of one that is not finite.

    Args:
        predictions: as `predict_rows` returns them.
        labels: ``[rows, …]``.
        task: as there.
    """
    if not np.isfinite(predictions).all():
        names = figures(np.zeros_like(predictions) + 1, labels, task)
        return dict.fromkeys(names)
    if task in ("lm", "seq2seq"):
        nll, tokens, right = predictions.tolist()
        found = language_metrics(nll, round(tokens), round(right))
    elif task == "classify":
        found = classification_metrics(predictions, labels)
    else:
        found = regression_metrics(predictions, labels)
    return {name: float(value) if math.isfinite(value) else None for name, value in found.items()}


def figure_names(labels: np.ndarray, task: str) -> list[str]:
    """The names of the figures that `figures` gives for such labels.

    Args:
        labels: ``[rows, …]``.
        task: as `predict_rows` takes it.
    """
    if task in ("lm", "seq2seq"):
        return list(figures(np.ones(3), labels, task))
    classes = (max(2, int(labels.max()) + 1),) if task == "classify" else ()
    return list(figures(np.ones((*labels.shape, *classes)), labels, task))
