"""Where each array of a Hugging Face file belongs in the params, one table read both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Entry(NamedTuple):
    """One array.

    Attributes:
        path: here.
        name: there, without the prefix that files of a class with a head have.
        shape: here.
        order: the axes of the array there, in the order they have here; None when it is the same.
        part: which piece of the array there this is, when it holds several.
        parts: pieces of equal size in the array there.
        axis: of the array there, along which its pieces lie.
        ones: leading axes of size one that the array there has and this has not.
        bare: the name never has a prefix, as those of heads.
        fresh: a pretrained file may lack it; it then starts from random numbers.
        otherwise: what is read in its place where the file lacks it, as tied weights are stored once.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...] | None = None
    part: int = 0
    parts: int = 1
    axis: int = -1
    ones: int = 0
    bare: bool = False
    fresh: bool = False
    otherwise: str | None = None

    @property
    def transpose(self) -> bool:
        """Whether it is a matrix that lies the other way there."""
        return self.order == (1, 0)

    def read(self, array: np.ndarray) -> np.ndarray | None:
        """The array here from the one there; None when its shape is another."""
        if array.shape != self.there():
            return None
        piece = np.split(array, self.parts, axis=self.axis)[self.part].reshape(self._cut())
        return piece if self.order is None else piece.transpose(self.order)

    def _cut(self) -> tuple[int, ...]:
        """The shape of the piece there, without leading ones."""
        if self.order is None:
            return self.shape
        found = [0] * len(self.shape)
        for here, there in enumerate(self.order):
            found[there] = self.shape[here]
        return tuple(found)

    def there(self) -> tuple[int, ...]:
        """The shape of the whole array there."""
        cut = list(self._cut())
        cut[self.axis] *= self.parts
        return (*(1,) * self.ones, *cut)


def write_arrays(
    entries: Sequence[Entry], arrays: Mapping[str, np.ndarray], prefix: str, *, dtype: Any = np.float32
) -> dict[str, np.ndarray]:
    """The arrays of a file by name, from those here by path; pieces are joined again. None keeps their types."""
    pieces: dict[str, list[np.ndarray]] = {}
    for entry in sorted(entries, key=lambda entry: entry.part):
        array = np.asarray(arrays[entry.path], dtype=dtype)
        if entry.order is not None:
            array = array.transpose(np.argsort(entry.order))
        array = array.reshape((*(1,) * entry.ones, *array.shape))
        pieces.setdefault(entry.name if entry.bare else prefix + entry.name, []).append(array)
    axes = {entry.name if entry.bare else prefix + entry.name: entry.axis for entry in entries}
    return {name: np.ascontiguousarray(np.concatenate(held, axes[name])) for name, held in pieces.items()}


def table(path: str, name: str, rows: int, size: int) -> list[Entry]:
    """An embedding."""
    return [Entry(f"{path}/embedding", f"{name}.weight", (rows, size))]


def linear(path: str, name: str, inputs: int, outputs: int, *, bias: bool = True) -> list[Entry]:
    """A dense layer, whose kernel torch stores as [outputs, inputs]."""
    found = [Entry(f"{path}/kernel", f"{name}.weight", (inputs, outputs), (1, 0))]
    return found + ([Entry(f"{path}/bias", f"{name}.bias", (outputs,))] if bias else [])


def scale(path: str, name: str, size: int) -> list[Entry]:
    """A norm without bias."""
    return [Entry(f"{path}/scale", f"{name}.weight", (size,))]


def norm(path: str, name: str, size: int) -> list[Entry]:
    """A norm with scale and bias."""
    return [*scale(path, name, size), Entry(f"{path}/bias", f"{name}.bias", (size,))]


def head(entries: Sequence[Entry]) -> list[Entry]:
    """The same arrays as those of a head: outside the prefix, and fresh when a file lacks them."""
    return [entry._replace(bare=True, fresh=True) for entry in entries]
