"""What a teacher says of every row of a data set, computed once and kept in files that later runs map."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.data.dataset import SOURCE_MASK, TARGET_MASK, Dataset, Ragged
from jaxft.distil.store import Store
from jaxft.errors import InputError
from jaxft.files import Layout, cache_dir
from jaxft.objectives.rows import hidden_state
from jaxft.trees import fingerprint
from jaxft.types import TEACHER, Model, Outputs, is_input
from jaxft.weights import lift

_STEP = 16
"""Lengths of batches are its multiples, so that few programs are compiled."""


class Kept(NamedTuple):
    """What is kept of a teacher's outputs."""

    logits: bool
    top_k: int | None
    features: bool
    hidden_states: tuple[int, ...]


def remember(
    teacher: Model,
    dataset: Dataset,
    directory: str | Path | None = None,
    *,
    logits: bool = True,
    top_k: int | None = None,
    features: bool = False,
    hidden_states: Sequence[int] = (),
    batch_size: int = 64,
) -> Dataset:
    """The data set with columns of what a teacher says of its rows, which a distillation with ``teacher=None`` reads.

    The teacher runs as in evaluation, once for each row, whatever the number of epochs and runs after it. It is exact
    where a student sees the very rows: pictures that are augmented on the host are refused with such columns. The
    columns are files that batches read from; a run that is killed goes on where it stopped, and several processes may
    ask for the same at once.

    Args:
        teacher: a model with whatever its params are, an adaptation bound to them included.
        dataset: its rows, with the columns that the teacher reads.
        directory: where the files are; one for each teacher and data set in the user's cache if None.
        logits: keep them, ``[rows, classes]`` or, of texts, one row a token.
        top_k: keep the largest alone, as log-probabilities; the other classes share what these leave. For vocabularies.
        features: keep what the head reads.
        hidden_states: numbers of layers to keep, 0 the embeddings, -1 the last.
        batch_size: rows that the teacher reads at once; no result depends on it beyond rounding.

    Raises:
        InputError: nothing is to be kept; the teacher is no model or does not give it; the directory holds what another
            teacher, other rows or other outputs left, or cannot be written to.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.small_mlp(2, num_labels=3, hidden=(5,))
        >>> rows = ft.data.arrays({"features": np.ones((4, 2)), "labels": np.arange(4) % 3})
        >>> told = remember(teacher, rows)
        >>> told.rows(np.array([0, 1]))["teacher/logits"].shape
        (2, 3)
        >>> objective = ft.combine(task=ft.cross_entropy(), soft=ft.knowledge_distillation(None))
    """
    if not isinstance(teacher, Model):
        raise InputError(
            f"remember asks one model, but got {type(teacher).__name__}: for an ensemble name it in the objective"
        )
    kept = Kept(logits, top_k, features, tuple(hidden_states))
    _check(kept, batch_size)
    program = _program(teacher, kept)
    sample = _inputs(dataset, np.zeros(1, np.int64), batch_size=1)
    shapes = jax.eval_shape(program, teacher.params, sample)
    layouts = {name: _layout(dataset, sample, shape) for name, shape in shapes.items()}
    cause = {
        "teacher": fingerprint(teacher.params)[:32] + hashlib.sha256(repr(teacher.config).encode()).hexdigest()[:8],
        "rows": _of_rows(dataset),
        "outputs": ", ".join(f"{name} {list(layouts[name].shape)}" for name in sorted(layouts)),
    }
    key = hashlib.sha256("\0".join(cause.values()).encode()).hexdigest()[:32]
    store = Store(cache_dir() / "teachers" / key if directory is None else Path(directory), cause, layouts)
    found = store.filled(len(dataset), batch_size, functools.partial(_fill, jax.jit(program), teacher.params, dataset))
    columns = {TEACHER + name: _column(dataset, sample, shapes[name], found[name]) for name in found}
    return dataclasses.replace(dataset, columns={**dataset.columns, **columns})


def _check(kept: Kept, batch_size: int) -> None:
    if not (kept.logits or kept.features or kept.hidden_states):
        raise InputError("remember has nothing to keep: ask for logits, features or hidden_states")
    if kept.top_k is not None and (isinstance(kept.top_k, bool) or kept.top_k < 1 or not kept.logits):
        raise InputError(f"top_k is a whole number from 1 up, of logits that are kept, but is {kept.top_k!r}")
    if batch_size < 1:
        raise InputError(f"batch_size is a whole number from 1 up, but is {batch_size}")


def _program(teacher: Model, kept: Kept) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """What is kept, by the names of columns."""
    apply = lift(teacher.apply)

    def run(params: Any, batch: Any) -> dict[str, jax.Array]:
        result = apply(params, batch, train=False)
        outputs = result if isinstance(result, Outputs) else Outputs(logits=result)
        found: dict[str, jax.Array] = {}
        if kept.logits:
            found |= _logits(outputs, kept.top_k)
        if kept.features:
            found["features"] = _given(outputs.features, "features")
        for layer in kept.hidden_states:
            found[f"hidden_states/{layer}"] = hidden_state(outputs, layer, "teacher")
        return {name: x.astype(jnp.float32) if name != "classes" else x for name, x in found.items()}

    return run


def _logits(outputs: Outputs, top_k: int | None) -> dict[str, jax.Array]:
    z = _given(outputs.logits, "logits")
    if top_k is None:
        return {"logits": z}
    if top_k > z.shape[-1]:
        raise InputError(f"the teacher has {z.shape[-1]} classes, fewer than top_k={top_k}: leave top_k out")
    top, classes = jax.lax.top_k(jax.nn.log_softmax(z.astype(jnp.float32)), top_k)
    return {"top": top, "classes": classes.astype(jnp.int32)}


def _given(value: Any, name: str) -> jax.Array:
    if value is None:
        raise InputError(f"the teacher gives no {name}: load it for the task of the student, or keep something else")
    found: jax.Array = value
    return found


def _inputs(dataset: Dataset, index: np.ndarray, *, batch_size: int) -> dict[str, np.ndarray]:
    """What a model reads of these rows, the last one again and again to fill the batch."""
    full = np.concatenate([index, np.full(batch_size - len(index), index[-1])])
    length = None
    if dataset.lengths is not None and dataset.max_length is not None:
        longest = int(dataset.lengths[index].max())
        length = min(dataset.max_length, -(-max(longest, 1) // _STEP) * _STEP)
    return {name: value for name, value in dataset.rows(full, length).items() if is_input(name)}


def _text(dataset: Dataset, batch: Mapping[str, np.ndarray], shape: Any) -> Ragged | None:
    """A column of tokens that an output is over, one entry each; None when it is over rows."""
    name = TARGET_MASK if "decoder_input_ids" in batch else SOURCE_MASK
    over_tokens = len(shape.shape) == 3 and name in batch and batch[name].shape == shape.shape[:2]
    texts = (column for column in dataset.columns.values() if isinstance(column, Ragged) and column.mask == name)
    return next(texts, None) if over_tokens else None


def _layout(dataset: Dataset, batch: Mapping[str, np.ndarray], shape: Any) -> Layout:
    text = _text(dataset, batch, shape)
    rows = (len(dataset),) if text is None else (len(text.values),)
    return Layout((*rows, *shape.shape[1 if text is None else 2 :]), np.dtype(shape.dtype))


def _column(dataset: Dataset, batch: Mapping[str, np.ndarray], shape: Any, values: np.ndarray) -> np.ndarray | Ragged:
    text = _text(dataset, batch, shape)
    return values if text is None else Ragged(values, text.offsets, 0, text.mask)


def _fill(
    program: Callable[..., Any], params: Any, dataset: Dataset, start: int, stop: int, batch_size: int
) -> dict[str, tuple[int, np.ndarray]]:
    """Of each column the place of the rows' first number, and the numbers."""
    index = np.arange(start, stop)
    batch = _inputs(dataset, index, batch_size=batch_size)
    found = {}
    for name, value in program(params, batch).items():
        array, text = np.asarray(value)[: len(index)], _text(dataset, batch, value)
        if text is None:
            found[name] = (start, array)
        else:
            seen = np.asarray(batch[text.mask])[: len(index)].astype(bool)
            found[name] = (int(text.offsets[start]), array[seen])
    return found


def _of_rows(dataset: Dataset) -> str:
    """A fingerprint of what a model reads of the rows."""
    digest = hashlib.sha256(f"{len(dataset)} {dataset.max_length} {dataset.max_target_length}".encode())
    for name, column in sorted(dataset.columns.items()):
        if is_input(name):
            parts = (column.values, column.offsets) if isinstance(column, Ragged) else (column,)
            for part in parts:
                digest.update(f"{name} {part.dtype} {part.shape}".encode())
                digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:32]
