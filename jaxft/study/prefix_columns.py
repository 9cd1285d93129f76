"""The activations of every row of a data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxft.files import Layout
from jaxft.study.prefix_program import Program, is_concrete
from jaxft.study.prefix_store import keep
from jaxft.trees import fingerprint
from jaxft.types import Array

_TOLERANCE = {8: 1e-10, 4: 1e-4, 2: 3e-2, 1: 0.2}
"""By bytes of a floating-point number: how far a row may be from itself, against the largest number of its batch."""


class PrefixRefused(Exception):
    """Activations must not be kept; the message says why."""


class _Compiled(NamedTuple):
    """``run(known, inputs)``, one array ``[batch, …]`` for each kept value, and the known leaves that it reads."""

    run: Callable[[list[Any], list[Any]], list[Array]]
    known: list[Any]


class Activations:
    """The kept values of a forward pass as a function of the inputs."""

    def __init__(self, program_of: Callable[[Sequence[Any]], Program], leaves: Sequence[Any], kept: tuple[int, ...]):
        """``program_of`` gives the program for inputs; ``leaves`` of the params have values where they are known."""
        self._program_of, self._leaves, self._kept = program_of, leaves, kept
        self._compiled: dict[Any, _Compiled] = {}

    def compute(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The activations of one batch."""
        compiled = self._at(inputs)
        return [np.asarray(value) for value in compiled.run(compiled.known, list(inputs))]

    def columns(self, inputs: Sequence[np.ndarray], batch_size: int, limit: int | None) -> tuple[np.ndarray, ...]:
        """The activations of all rows, computed a batch at a time.

        Raises:
            PrefixRefused: those of a row depend on the rows beside it.
        """
        rows = inputs[0].shape[0]
        shapes = [jax.ShapeDtypeStruct((batch_size, *value.shape[1:]), value.dtype) for value in inputs]
        compiled = self._at(shapes)
        layouts = [
            Layout((rows, *value.shape[1:]), np.dtype(value.dtype))
            for value in jax.eval_shape(compiled.run, compiled.known, shapes)
        ]

        def chunks() -> Iterator[tuple[int, list[np.ndarray]]]:
            check_rows(self, inputs, batch_size)
            for start in range(0, rows, batch_size):
                there = np.minimum(np.arange(start, start + batch_size), rows - 1)
                found = self.compute([value[there] for value in inputs])
                yield start, [value[: rows - start] for value in found]

        return keep(self._key(compiled, shapes, inputs), layouts, chunks, limit)

    def _at(self, inputs: Sequence[Any]) -> _Compiled:
        place = tuple((value.shape, str(value.dtype)) for value in inputs)
        if place not in self._compiled:
            self._compiled[place] = self._compile(self._program_of(inputs), inputs[0].shape[0])
        return self._compiled[place]

    def _compile(self, program: Program, batch: int) -> _Compiled:
        read = {x for i in program.needed(self._kept) for x in program.equations[i].inputs if isinstance(x, int)}
        places = [i for i in range(len(self._leaves)) if program.inputs[i] in read]
        assert all(is_concrete(self._leaves[i]) for i in places)

        def run(known: list[Any], inputs: list[Any]) -> list[Array]:
            given = {program.inputs[place]: leaf for place, leaf in zip(places, known, strict=True)}
            given |= dict(zip(program.inputs[len(self._leaves) :], inputs, strict=False))
            return [_by_row(value, batch) for value in program.run(given, self._kept)]

        return _Compiled(jax.jit(run), [self._leaves[i] for i in places])

    def _key(self, compiled: _Compiled, shapes: Sequence[Any], inputs: Sequence[np.ndarray]) -> str:
        """Names the activations by all that they depend on."""
        closed = jax.make_jaxpr(compiled.run)(compiled.known, shapes)
        text = re.sub(r"0x[0-9a-f]+", "", str(closed))  # addresses of functions differ from process to process
        arrays = {"known": compiled.known, "constants": list(closed.consts), "inputs": list(inputs)}
        parts = (text, fingerprint(arrays), jax.__version__, jax.default_backend())
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def check_rows(activations: Activations, inputs: Sequence[np.ndarray], batch_size: int) -> None:
    """Computes rows twice, in other places and beside other rows.

    Raises:
        PrefixRefused: the activations of a row are not the same.
    """
    rows, batch = inputs[0].shape[0], max(2, batch_size)
    half = (batch + 1) // 2
    first = np.arange(batch) % rows
    again = first[::-1].copy()
    again[half:] = rows - 1 - np.arange(batch - half) % rows if rows > batch else 0
    one = activations.compute([value[first] for value in inputs])
    other = activations.compute([value[again] for value in inputs])
    for left, right in zip(one, other, strict=True):
        same, moved = left[::-1][:half], right[:half]
        if not _close(same, moved):
            raise PrefixRefused(
                "the activations of a row depend on the rows beside it in a batch, as under a batch norm in training"
            )


def _close(left: np.ndarray, right: np.ndarray) -> bool:
    if not jax.numpy.issubdtype(left.dtype, np.inexact):
        return np.array_equal(left, right)
    tolerance = _TOLERANCE.get(jax.numpy.finfo(left.dtype).dtype.itemsize, 1e-10)
    wide, moved = left.astype(np.complex128), right.astype(np.complex128)
    largest = np.max(np.abs(wide), where=np.isfinite(wide), initial=0.0)
    return np.allclose(wide, moved, rtol=0, atol=tolerance * largest, equal_nan=True)


def _by_row(value: Array, batch: int) -> Array:
    return value if value.shape[0] == batch else value.reshape(batch, -1, *value.shape[1:])
