"""What a run holds beside its settings and rows: arrays of its program, and what its functions were made with."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxft.trees import fingerprint


def arrays_in(closed: Any) -> Iterator[Any]:
    """The arrays with at least one axis that a closed jaxpr holds at any depth; those of an outer trace are not known.

    Numbers are no arrays: they are settings, or stand in the code.
    """
    yield from known_arrays(closed.consts)
    waiting = [closed.jaxpr]
    while waiting:
        jaxpr = waiting.pop()
        for equation in jaxpr.eqns:
            yield from known_arrays(v.val for v in equation.invars if isinstance(v, core.Literal))
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda p: isinstance(p, core.Jaxpr | core.ClosedJaxpr)
            ):
                if isinstance(inner, core.ClosedJaxpr):
                    yield from known_arrays(inner.consts)
                    waiting.append(inner.jaxpr)
                elif isinstance(inner, core.Jaxpr):
                    waiting.append(inner)


def known_arrays(leaves: Iterable[Any]) -> Iterator[Any]:
    """Those of the leaves that are arrays with at least one axis and a value."""
    for leaf in leaves:
        if hasattr(leaf, "__array__") and not isinstance(leaf, jax.core.Tracer) and np.ndim(leaf):
            yield leaf


def contents(arrays: Iterable[Any], without: Iterable[Any] = ()) -> list[str]:
    """The fingerprints of arrays, sorted, each once: equal for the same arrays, in whatever order a trace met them.

    Args:
        arrays: with values.
        without: the same objects are left out.
    """
    left_out = {id(array) for array in without}
    return sorted({fingerprint(array) for array in {id(a): a for a in arrays if id(a) not in left_out}.values()})


def made_with(value: Any) -> Any:
    """Values that a function closes over and its defaults, as JSON holds them, the same in every process.

    Args:
        value: a function; of what it holds, numbers, texts, arrays, containers, dataclasses and functions count by
            their content, other objects by their type.

    Example:
        >>> def outer(steps):
        ...     def build(config, size=2):
        ...         return steps * size
        ...     return build
        >>> made_with(outer(3))
        ['outer.<locals>.build', ['3'], ['2'], []]
    """
    return _held(value, frozenset())


def _held(value: Any, above: frozenset[int]) -> Any:
    if id(value) in above:
        return "itself"
    inside = functools.partial(_held, above=above | {id(value)})
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, np.ndarray | jax.Array | np.generic) and not isinstance(value, jax.core.Tracer):
        return fingerprint(value)
    if isinstance(value, Mapping):
        return sorted(([str(name), inside(item)] for name, item in value.items()), key=lambda pair: str(pair[0]))
    if isinstance(value, tuple | list):
        return [inside(item) for item in value]
    if isinstance(value, functools.partial):
        return [inside(value.func), inside(value.args), inside(value.keywords)]
    if inspect.ismethod(value):
        return [inside(value.__func__), inside(value.__self__)]
    if inspect.isfunction(value):
        cells = [inside(held) for cell in value.__closure__ or () for held in _contents(cell)]
        return [_name(value), cells, inside(value.__defaults__ or ()), inside(value.__kwdefaults__ or {})]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, inside({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})]
    return getattr(value if isinstance(value, type) else type(value), "__qualname__", "")


def _name(function: Any) -> str:
    """Its name; of a lambda also its line, for several have that name."""
    line = f":{function.__code__.co_firstlineno}" if function.__name__ == "<lambda>" else ""
    return f"{function.__qualname__}{line}"


def _contents(cell: Any) -> tuple[Any, ...]:
    """The value of a cell; nothing where it has none yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()
