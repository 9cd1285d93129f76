"""What adaptation did: classes found again, domains told apart, and a picture of features before and after."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.shift.rows import Labelled, checked, matrix, pair


def per_class_recall(logits: Any, labels: Any) -> np.ndarray:
    """The share of each class that is predicted as such, ``[classes]``; NaN for a class without rows.

    A method that drops a class does well on average and shows here.

    Args:
        logits: ``[rows, classes]``.
        labels: whole numbers ``[rows]``.

    Raises:
        InputError: shapes do not fit together, or a label is none of the classes.

    Example:
        >>> per_class_recall(np.eye(2)[[0, 0, 1]], np.array([0, 1, 1])).tolist()
        [1.0, 0.5]
    """
    values = matrix(logits, "logits")
    truth = checked(labels, values)
    right = values.argmax(1) == truth
    counts = np.bincount(truth, minlength=values.shape[1])
    found = np.bincount(truth, weights=right, minlength=values.shape[1])
    return np.asarray(np.where(counts > 0, found / np.maximum(counts, 1), np.nan))


def domain_confusion(source: Any, target: Any, *, neighbours: int = 10) -> float:
    """How mixed the domains are: the share of other-domain rows among each row's nearest, over what chance gives.

    0 where every row has neighbours of its own domain alone, about 1 where the domains are one.

    Args:
        source: features ``[n, dim]``.
        target: ``[m, dim]``.
        neighbours: how many of the nearest.

    Raises:
        InputError: features of different sizes or not finite, or too few rows for so many neighbours.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> domain_confusion(x, x + 100)
        0.0
    """
    from sklearn.neighbors import NearestNeighbors

    s, t = pair(source, target, rows=2)
    n, m = len(s), len(t)
    if isinstance(neighbours, bool) or not 1 <= neighbours < n + m:
        raise InputError(f"neighbours is a whole number from 1 to {n + m - 1}, but is {neighbours!r}")
    x, domain = np.concatenate([s, t]), np.repeat([0, 1], [n, m])
    nearest = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors(return_distance=False)
    other = (domain[nearest] != domain[:, None]).mean(1)
    chance = np.where(domain == 0, m, n) / (n + m - 1)
    return float(0.5 * sum((other / chance)[domain == which].mean() for which in (0, 1)))


def feature_picture(
    before: tuple[Labelled, Labelled], after: tuple[Labelled, Labelled], path: str | os.PathLike[str]
) -> None:
    """Draws the features of both domains before and after, on their two leading principal axes.

    Each panel has axes of its own, those of its source and target together. Classes are colours; the source is dots,
    the target crosses. The labels of the target are for the eye: nothing may be chosen by this picture.

    Args:
        before: source and target, whose ``logits`` are not read.
        after: likewise.
        path: of the picture, ``.png`` or ``.svg``.

    Raises:
        InputError: features of different sizes or not finite.

    Example:
        >>> import tempfile, pathlib
        >>> rows = [Labelled(np.random.default_rng(k).normal(size=(30, 4)), None, np.arange(30) % 3) for k in (0, 1)]
        >>> picture = pathlib.Path(tempfile.mkdtemp()) / "features.png"
        >>> feature_picture((rows[0], rows[1]), (rows[0], rows[1]), picture)
        >>> picture.exists()
        True
    """
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.6), layout="constrained")
    for axes, title, (source, target) in zip(panels, ("before", "after"), (before, after), strict=True):
        s, t = pair(source.features, target.features, rows=2)
        x = np.concatenate([s, t])
        centred = x - x.mean(0)
        place = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        for rows, labels, marker, size in (
            (place[: len(s)], source.labels, "o", 10),
            (place[len(s) :], target.labels, "x", 22),
        ):
            axes.scatter(
                rows[:, 0],
                rows[:, 1],
                s=size,
                c=np.asarray(labels),
                cmap="tab10",
                marker=marker,
                alpha=0.7,
                linewidths=1,
            )
        axes.set(title=title, xticks=[], yticks=[])
    handles = [
        plt.Line2D([], [], color="black", linestyle="", marker=marker, label=name)
        for marker, name in (("o", "source"), ("x", "target"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
