"""What can be done to frozen features of two domains before any training; experiments import it.

Weights of the source's rows, and transforms in closed form. Both read the features of all rows of both domains, those
of the test rows among them, and no label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import jaxft as ft

Parts = Mapping[str, Mapping[str, np.ndarray]]
"""Part -> columns, "features" among them."""
DIM = 100
"""Of the space that subspace alignment and transfer components find."""


def _weighted(weights: Callable[..., np.ndarray]) -> Callable[[Parts, Parts], tuple[Parts, Parts]]:
    """Training rows of the source count as those of the target would."""

    def move(ours: Parts, theirs: Parts) -> tuple[Parts, Parts]:
        train = ours["train"]
        found = weights(train["features"], theirs["train"]["features"])
        return {**ours, "train": {**train, "weight": found.astype(np.float32)}}, theirs

    return move


def _transformed(transform: Callable[[Any, Any], ft.shift.Aligned]) -> Callable[[Parts, Parts], tuple[Parts, Parts]]:
    """All rows are moved, and scaled so that their deviation is that of the features they were."""

    def move(ours: Parts, theirs: Parts) -> tuple[Parts, Parts]:
        before = [np.concatenate([part["features"] for part in side.values()]) for side in (ours, theirs)]
        found = transform(*before)
        scale = np.std(np.concatenate(before)) / np.std(np.concatenate(found))
        return _divided(ours, scale * found.source), _divided(theirs, scale * found.target)

    return move


def _divided(side: Parts, features: np.ndarray) -> Parts:
    ends = np.cumsum([len(part["features"]) for part in side.values()])[:-1]
    pieces = np.split(features.astype(np.float32), ends)
    return {name: {**part, "features": piece} for (name, part), piece in zip(side.items(), pieces, strict=True)}


def _coral(source: Any, target: Any) -> ft.shift.Aligned:
    return ft.shift.Aligned(ft.shift.coral_transform(source, target, regularisation=0.01), np.asarray(target))


MOVES: dict[str, Callable[[Parts, Parts], tuple[Parts, Parts]]] = {
    "density ratio": _weighted(ft.shift.density_ratio),
    "KLIEP": _weighted(ft.shift.kliep),
    "KMM": _weighted(ft.shift.kmm),
    "CORAL transform": _transformed(_coral),
    "subspace alignment": _transformed(lambda source, target: ft.shift.subspace_alignment(source, target, dim=DIM)),
    "transfer components": _transformed(lambda source, target: ft.shift.transfer_components(source, target, dim=DIM)),
}
"""(the source's parts, the target's) -> both as the classifier gets them."""
