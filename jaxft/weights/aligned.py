"""Weights in parts that move with them: every part has one axis for each axis of the weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import jax

from jaxft.types import Array
from jaxft.weights.structured import Structured, is_structured

A = TypeVar("A", bound="Aligned")


class Aligned(Structured):
    """A base and parts beside it, each with one axis for every axis of W, of size one where it does not depend on it.

    So every operation that moves the axes of W (transposing, slicing a stack of layers, mapping) is the same operation
    on the parts, and no bookkeeping says which axis is which.

    Attributes:
        base: an array or another structured weight, of the shape of W.
        extra: for each part by name, how many axes it has behind those of W.
    """

    base: Any
    extra: ClassVar[Mapping[str, int]]

    def aval(self) -> Any:
        """Shape and dtype of W."""
        return jax.core.ShapedArray(self.base.shape, self.base.dtype)

    def parts(self) -> dict[str, Array]:
        """The parts that are there."""
        return {name: part for name in self.extra if (part := getattr(self, name)) is not None}

    def is_stack(self) -> bool:
        """Whether cutting every part along its first axis cuts W along its first axis."""
        whole = self.base.is_stack() if is_structured(self.base) else True
        return whole and all(part.shape[0] == self.shape[0] for part in self.parts().values())

    def move(self: A, base: Any, f: Callable[[Array, int], Array]) -> A:
        """The same weight with another base and ``f(part, extra)`` for every part."""
        moved = {name: f(part, self.extra[name]) for name, part in self.parts().items()}
        return dataclasses.replace(self, base=base, **moved)

    def cast(self: A, base: Any, dtype: Any) -> A:
        """The same weight in another type, whose base is cast already."""
        del dtype
        return dataclasses.replace(self, base=base)

    def rescale(self: A, base: Any, by_factor: Callable[[Array], Array]) -> A:
        """The same weight times a number; its base is multiplied already, ``by_factor`` multiplies what adds to it."""
        del by_factor
        return dataclasses.replace(self, base=base)


def depends_on(part: Array, shape: tuple[int, ...]) -> set[int]:
    """The axes of a weight of this shape that a part depends on; those of size one count for none."""
    return {axis for axis, size in enumerate(shape) if part.shape[axis] == size > 1}
