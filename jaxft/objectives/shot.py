"""SHOT: a model adapts to a target without the source, its head held still."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.entropy import information_maximisation
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import part_of, softmax_cross_entropy
from jaxft.types import Array, Context, Key, Memory, Metrics, Objective

COLUMN = "pseudo_labels"
ROW = "row"
SOURCES = ("batch", "bank", "column")


def shot_pseudo_labels(features: Array, logits: Array, *, mask: Array | None = None) -> Array:
    """The class of the nearest centroid of each row: soft centroids first, then those of the classes found.

    c_k = Σ_i p_ik f_i / Σ_i p_ik,  ŷ_i = argmax_k cos(f_i, c_k);  then once more with p_ik = 1[ŷ_i = k]

    A class to which no row is nearest has no centroid the second time. Meant for the whole target; it reads no labels
    and gives no gradient.

    Args:
        features: f, ``[rows, dim]``.
        logits: of p, ``[rows, classes]``.
        mask: bools ``[rows]``; a row that is left out is in no centroid and has the label −100, which no
            cross-entropy counts.

    Returns:
        Whole numbers ``[rows]``.

    Raises:
        InputError: features and logits that do not fit together, or a mask that does not fit them.

    Example:
        >>> features = jnp.array([[1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.2, 1.0]])
        >>> one_is_wrong = jnp.array([[2.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.1, 0.0]])
        >>> shot_pseudo_labels(features, one_is_wrong).tolist()
        [0, 0, 1, 1]

    References:
        Liang et al., "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain
        Adaptation", 2020.
    """
    counts = rows_that_count(features, mask)
    return jnp.where(counts, nearest(features, centroids(features, logits, mask=mask)), -100)


def centroids(features: Array, logits: Array, *, mask: Array | None = None) -> Array:
    """The centroids of `shot_pseudo_labels` after their refit, ``[classes, dim]``; NaN for a class that has no row."""
    if features.ndim != 2 or logits.ndim != 2 or features.shape[0] != logits.shape[0]:
        raise InputError(
            "pseudo-labels of centroids expect features [rows, dim] and logits [rows, classes], but they are "
            f"{list(features.shape)} and {list(logits.shape)}"
        )
    counts = rows_that_count(features, mask)[:, None]
    f, z = (jnp.where(counts, jax.lax.stop_gradient(values).astype(jnp.float32), 0.0) for values in (features, logits))
    soft = _means(f, jnp.where(counts, jax.nn.softmax(z), 0.0))
    return _means(f, jnp.where(counts, jax.nn.one_hot(nearest(f, soft), logits.shape[1]), 0.0))


def nearest(features: Array, centroids: Array) -> Array:
    """The number of the centroid at the smallest angle from each row; a centroid of NaN is none."""
    f, c = (
        values / jnp.maximum(jnp.sqrt(jnp.sum(values**2, axis=1, keepdims=True)), 1e-30)
        for values in (jax.lax.stop_gradient(features).astype(jnp.float32), jnp.nan_to_num(centroids))
    )
    cosines = jnp.matmul(f, c.T, precision="highest")
    return jnp.argmax(jnp.where(jnp.isnan(centroids[:, 0]), -jnp.inf, cosines), axis=1)


def shot(
    view: str = "target",
    *,
    beta: float | Array = 0.3,
    pseudo: str = "batch",
    rows: int | None = None,
    layer: Layer = "features",
) -> Objective:
    """Source-free adaptation by information maximisation and pseudo-labels of centroids: SHOT.

    L = E[H(p)] − H(E[p]) + β CE(p, ŷ)

    The source's head is the hypothesis that is kept: the adaptation is ``ft.freeze("head/**")``, and the objective
    stands alone, without the source. The paper's ŷ are of the whole target and renewed each epoch:

    - "column": the view has them as an array "pseudo_labels" ``[batch]``, which the caller renews with
      `shot_pseudo_labels` on the features and logits of the whole target; −100 leaves a row's out.
    - "bank": the objective keeps features and logits of all target rows, as they were when they were last seen, and
      finds the centroids in what it has; the view has the number of each row as an array "row" ``[batch]``. One
      program, no second pass over the target.
    - "batch": centroids of the batch alone; meant for batches of many rows a class.

    Args:
        view: name of the part of the batch; its labels, if it has any, are not read.
        beta: β; may be traced.
        pseudo: where ŷ come from: "batch", "bank" or "column".
        rows: of the whole target, for the bank.
        layer: that the centroids are of.

    Raises:
        InputError: another word for pseudo; a bank without the number of rows, or rows without a bank; a view without
            the column that is needed.

    Example:
        >>> import jaxft as ft
        >>> adaptation, objective = ft.freeze("head/**"), shot("target", pseudo="bank", rows=1797)

    References:
        Liang et al., "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain
        Adaptation", 2020.
    """
    if pseudo not in SOURCES or (pseudo == "bank") != (rows is not None):
        raise InputError(
            f"shot expects pseudo to be one of {', '.join(SOURCES)}, and the number of rows of the target for the bank "
            f"alone; got pseudo={pseudo!r} and rows={rows}"
        )

    def init(key: Key, context: Context) -> tuple[tuple[()], tuple[()], Any]:
        del key
        if rows is None:
            return (), (), ()
        sizes = jax.eval_shape(lambda: (layer_of(context, view, layer)[0], context.forward(view).logits))
        features, logits = (jnp.zeros((rows, size.shape[-1])) for size in sizes)
        return (), (), {"features": features, "logits": logits, "seen": jnp.zeros(rows, bool)}

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        (features, counts), logits = layer_of(context, view, layer), context.forward(view).logits
        if pseudo == "batch":
            labels = shot_pseudo_labels(features, logits, mask=counts)
        elif pseudo == "column":
            labels = _column(context, view, COLUMN)
        else:
            memory = _written(memory, _column(context, view, ROW), counts, features, logits)
            found = centroids(memory["features"], memory["logits"], mask=memory["seen"])
            labels = nearest(features, found)
        spread = information_maximisation(logits, mask=counts)
        own = softmax_cross_entropy(logits, labels, mask=counts)
        return spread + beta * own, (memory, {"information": spread, "pseudo": own})

    return Objective(init, apply)


def _means(features: Array, shares: Array) -> Array:
    """Mean features of each class under the shares ``[rows, classes]``; NaN where a class has none."""
    total = jnp.sum(shares, axis=0)[:, None]
    means = jnp.matmul(shares.T, features, precision="highest") / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, means, jnp.nan)


def _written(bank: Memory, row: Array, counts: Array, features: Array, logits: Array) -> Memory:
    """The bank with the rows of the batch that count in their places."""
    place = jnp.where(counts & (row >= 0), row, bank["seen"].shape[0])  # past the end: not written
    new = {"features": features, "logits": logits, "seen": jnp.ones(row.shape, bool)}
    return {
        name: bank[name].at[place].set(jax.lax.stop_gradient(value).astype(bank[name].dtype), mode="drop")
        for name, value in new.items()
    }


def _column(context: Context, view: str, name: str) -> Array:
    part = part_of(context.batch, view)
    if name not in part or not jnp.issubdtype(part[name].dtype, jnp.integer):
        what = "renewed each epoch by shot_pseudo_labels" if name == COLUMN else "the number of each row in the target"
        raise InputError(f"shot expects {name!r} in {view!r}, whole numbers [batch], {what}; it has {sorted(part)}")
    return jnp.asarray(part[name])
