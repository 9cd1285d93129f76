"""Adaptive batch normalisation: a model's running statistics anew, from rows of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.train.forward import as_outputs
from jaxft.trees import leaf_paths, map_with_path
from jaxft.types import Batch, Params
from jaxft.weights import lift


def adabn(model_apply: Callable[..., Any], params: Params, batches: Iterable[Batch]) -> Params:
    """Returns the params with running statistics that are those of the batches; nothing else changes.

    mean = Σ_b n_b mean_b / Σ_b n_b and likewise for variances, with what the means of batches vary by

    A model in training returns (1 − m) running + m batch. Running it from zeros and from ones gives m and the batch's
    own statistics, whatever its momentum. Batches are best as large as memory allows: all layers above the first see
    what the batch's own statistics make of it.

    Args:
        model_apply: ``(params, batch, *, train=False, key=None) -> Outputs`` whose ``stats`` move in training, as those
            of ``load_model(…, update_stats=True)`` do. A mean is a leaf called "mean", a variance one called "var".
        params: of the trained model, structured weights included.
        batches: dicts of arrays of the target; labels are not read, and rows whose "mask" is False are left out.

    Raises:
        InputError: there is no row, the model has no statistics, or they do not move in training.

    Example:
        >>> import jaxft as ft
        >>> model = ft.small_convnet(8, num_labels=2, norm=True)
        >>> pixels = jax.random.uniform(jax.random.key(0), (32, 8, 8, 1))
        >>> adapted = adabn(model.apply, model.params, [{"pixels": pixels}])
        >>> fresh = model.params["convolution_0"]["norm"], adapted["convolution_0"]["norm"]
        >>> [bool(jnp.all(fresh[0][name] == fresh[1][name])) for name in ("scale", "mean", "var")]
        [True, False, False]

    References:
        Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016.
    """
    lifted = lift(model_apply)

    @jax.jit
    def of_batch(params: Params, batch: Batch) -> dict[str, jax.Array]:
        def returned(value: float) -> dict[str, jax.Array]:
            held = map_with_path(lambda path, leaf: jnp.full_like(leaf, value) if path in names else leaf, params)
            outputs = as_outputs(lifted(held, batch, train=True, key=jax.random.key(0)))
            return leaf_paths(outputs.stats)

        zeros, ones = returned(0.0), returned(1.0)
        return {path: zeros[path] / (1 - (ones[path] - zeros[path])) for path in names}

    names: frozenset[str] = frozenset()
    parts: list[tuple[int, dict[str, np.ndarray]]] = []
    for batch in batches:
        rows = _counted(batch)
        names = names or _names(lifted, params, rows)
        parts.append((len(next(iter(rows.values()))), jax.device_get(of_batch(params, rows))))
    if not sum(count for count, _ in parts):
        raise InputError("there is no row of the target to take statistics of")
    found = _pooled(parts)
    return map_with_path(lambda path, leaf: jnp.asarray(found[path], leaf.dtype) if path in names else leaf, params)


def _counted(batch: Batch) -> dict[str, Any]:
    """The columns the model reads, of the rows that count."""
    counts = None if "mask" not in batch else np.asarray(batch["mask"], bool)
    columns = {name: value for name, value in batch.items() if name not in ("labels", "mask")}
    return columns if counts is None else {name: np.asarray(value)[counts] for name, value in columns.items()}


def _names(apply: Callable[..., Any], params: Params, batch: Batch) -> frozenset[str]:
    """The paths of the statistics that move in training.

    Raises:
        InputError: there are none.
    """
    moved: list[str] = []

    def look(params: Params, batch: Batch) -> None:
        stats = as_outputs(apply(params, batch, train=True, key=jax.random.key(0))).stats
        before = leaf_paths(params)
        moved.extend(path for path, leaf in leaf_paths(stats).items() if before.get(path) is not leaf)

    jax.eval_shape(look, params, batch)
    if not moved:
        raise InputError(
            "adabn is for batch norm whose running statistics move in training, but the model has none that do; load "
            "it with update_stats=True"
        )
    return frozenset(moved)


def _pooled(parts: list[tuple[int, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """The statistics of all batches together, each weighted by its rows."""
    shares = np.array([count for count, _ in parts], np.float64) / sum(count for count, _ in parts)

    def mean(path: str) -> np.ndarray:
        return np.asarray(np.tensordot(shares, np.stack([found[path] for _, found in parts]), axes=1))

    pooled = {path: mean(path) for path in parts[0][1]}
    for path in [path for path in pooled if path.endswith("/var")]:
        centre = path.removesuffix("var") + "mean"
        spread = np.stack([found[centre] for _, found in parts]) - pooled[centre]
        pooled[path] = pooled[path] + np.tensordot(shares, spread**2, axes=1)
    return pooled
