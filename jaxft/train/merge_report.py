"""What merging would change, before anything is written: each weight, and the logits in several types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.train.evaluate import predict
from jaxft.trees import is_array, leaf_paths, map_with_path
from jaxft.types import Batch, Outputs, Params
from jaxft.weights import LowRank, Scaled, int8, is_structured, lift, materialise


class WeightChange(NamedTuple):
    """How far a weight moved: ‖ΔW‖ / ‖W‖ in the Frobenius norm; infinite where the base has none or it is zero.

    Of a quantised base W is the rounded weight.
    """

    path: str
    relative: float


class LogitChange(NamedTuple):
    """How far merged logits lie from unmerged ones.

    Attributes:
        stored: the type in which the merged weights are kept.
        largest: the largest absolute difference.
        scale: the largest absolute logit of the unmerged model.
        changed: predictions, largest logits, that differ.
        predicted: how many there are.
    """

    stored: str
    largest: float
    scale: float
    changed: int
    predicted: int


class MergeReport(NamedTuple):
    """What merging would change.

    Attributes:
        weights: those that are not as in the base, the one that moved most first.
        logits: for float32, bfloat16 and int8 (symmetric, a scale for each output channel of every kernel).
    """

    weights: tuple[WeightChange, ...]
    logits: tuple[LogitChange, ...]


def merge_report(
    model_apply: Callable[..., Outputs | jax.Array], base: Params, adapted: Params, batches: Iterable[Batch]
) -> MergeReport:
    """Merges an adapted model in memory, in three types, and compares it with the unmerged one on a sample.

    Args:
        model_apply: ``Model.apply``, or a function from params and batch to logits.
        base: params of the base model.
        adapted: of the adapted one, as ``adaptation.bind(frozen, delta)`` gives them.
        batches: the sample, as for `predict`.

    Raises:
        InputError: the sample is empty.

    Example:
        >>> import jaxft as ft
        >>> params = {"kernel": jnp.eye(4)}
        >>> adaptation = ft.lora("kernel", rank=1, alpha=1.0)
        >>> frozen, _ = adaptation.init(jax.random.key(0), params)
        >>> delta = {"kernel": {"a": jnp.ones((4, 1)), "b": jnp.ones((1, 4))}}
        >>> found = merge_report(
        ...     lambda params, batch, **_: batch["x"] @ params["kernel"],
        ...     params, adaptation.bind(frozen, delta), [{"x": np.eye(4, dtype=np.float32)}])
        >>> found.weights, found.logits[0].largest
        ((WeightChange(path='kernel', relative=2.0),), 0.0)
    """
    sample = list(batches)
    if not sample:
        raise InputError("to compare logits expects at least one batch, but there is none")
    merged = jax.tree.map(_whole, adapted, is_leaf=is_structured)
    before = predict(model_apply, adapted, sample)
    scale = float(np.abs(before[np.isfinite(before)]).max(initial=0.0))
    logits = []
    for stored, store in _STORES.items():
        after = predict(model_apply, map_with_path(store, merged), sample)
        changed = before.argmax(-1) != after.argmax(-1)
        logits.append(LogitChange(stored, _largest(before, after), scale, int(changed.sum()), changed.size))
    changes = sorted(_changes(base, adapted, merged), key=lambda change: -change.relative)
    return MergeReport(tuple(changes), tuple(logits))


def _whole(leaf: Any) -> Any:
    """A weight as one array in float32, whatever the type of its base."""
    floats = jnp.issubdtype(leaf.dtype, jnp.floating)
    return materialise(lift(lambda w: w.astype(jnp.float32))(leaf)) if floats else leaf


def _largest(before: np.ndarray, after: np.ndarray) -> float:
    """The largest difference; logits that are masked in both, infinite alike, do not differ."""
    differ = before != after
    return float(np.abs(after[differ] - before[differ]).max(initial=0.0))


def _changes(base: Params, adapted: Params, merged: Params) -> Iterable[WeightChange]:
    former, bound = leaf_paths(base, is_leaf=is_array), leaf_paths(adapted, is_leaf=is_structured)
    for path, leaf in leaf_paths(merged).items():
        if path not in former:
            yield WeightChange(path, float("inf"))
            continue
        under = bound[path]
        while isinstance(under, LowRank | Scaled):
            under = under.base
        # A base that was rounded to a few bits is what the update stands on: its rounding is no part of the update.
        old = np.asarray(materialise(under if is_structured(under) else former[path]), np.float32)
        moved = float(np.linalg.norm(np.asarray(leaf, np.float32) - old))
        if moved > 0:
            norm = float(np.linalg.norm(old))
            yield WeightChange(path, moved / norm if norm else float("inf"))


def _as_float32(path: str, leaf: Any) -> Any:
    del path
    return leaf


def _as_bfloat16(path: str, leaf: Any) -> Any:
    del path
    return leaf.astype(jnp.bfloat16).astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _as_int8(path: str, leaf: Any) -> Any:
    if path.rpartition("/")[2] != "kernel" or leaf.ndim < 2:
        return leaf
    return int8(leaf, inputs=tuple(range(leaf.ndim - 1))).materialise()


_STORES: dict[str, Callable[[str, Any], Any]] = {"float32": _as_float32, "bfloat16": _as_bfloat16, "int8": _as_int8}
