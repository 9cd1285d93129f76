"""The settings of a study: a product of axes, and which of them are structure."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from jaxft.errors import InputError, nearest

Scalar = bool | int | float | str | None


class Masked(tuple[int, ...]):
    """Ranks that share one program; made by `masked`."""


class Grid(NamedTuple):
    """Combinations of settings; made by `grid`. Two are put together by ``+``.

    Attributes:
        parts: each a product of axes, name -> values.
    """

    parts: tuple[Mapping[str, Sequence[Scalar]], ...]

    def __add__(self, other: object) -> Grid:
        if not isinstance(other, Grid):
            raise InputError(
                f"a grid is added to a grid, but this is a {type(other).__name__}: write grid(…) + grid(…)"
            )
        return Grid(self.parts + other.parts)

    @property
    def axes(self) -> dict[str, list[Scalar]]:
        """Every axis and its values, in order of appearance."""
        found: dict[str, list[Scalar]] = {}
        for part in self.parts:
            for name, values in part.items():
                found.setdefault(name, []).extend(value for value in values if value not in found.get(name, []))
        return found

    @property
    def masked(self) -> dict[str, int]:
        """The axes made by `masked`, and the largest value of each."""
        axes = [(name, values) for part in self.parts for name, values in part.items() if isinstance(values, Masked)]
        return {name: max(max(v) for n, v in axes if n == name) for name, _ in axes}

    def configs(self, config: Any) -> list[Any]:
        """Every combination as a change of ``config``, each once; the last axis varies fastest.

        Args:
            config: a dataclass instance; axes are fields of it, of the fields' types.

        Raises:
            InputError: an axis is no field, or a value is not of the field's type.
        """
        kinds = field_types(type(config))
        found: dict[Any, None] = {}
        for part in self.parts:
            for name, values in part.items():
                if name not in kinds:
                    raise InputError(
                        f"the axis {name!r} is no field of {type(config).__name__}; {nearest(name, kinds)}"
                    )
                for value in values:
                    _check(name, value, kinds[name])
            for values in itertools.product(*part.values()):
                found[_of_their_types(dataclasses.replace(config, **dict(zip(part, values, strict=True))))] = None
        return list(found)


def grid(**axes: Any) -> Grid:
    """A product of axes; two grids are added where methods have settings of their own.

    Args:
        **axes: a field of the config and its values: a sequence, or one value.

    Raises:
        InputError: an axis has no value.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Config:
        ...     method: str = "full"
        ...     rank: int = 8
        ...     seed: int = 0
        >>> both = grid(method="lora", rank=(1, 4), seed=range(2)) + grid(method="full", seed=range(2))
        >>> len(both.configs(Config()))
        6
    """
    parts = {name: values if isinstance(values, Masked) else _values(values) for name, values in axes.items()}
    if empty := [name for name, values in parts.items() if not values]:
        raise InputError(f"the axis {empty[0]!r} has no value: give at least one")
    return Grid((parts,))


def masked(*ranks: int) -> Masked:
    """An axis of ranks whose runs share one program: `lora` computes with the largest and masks the rest.

    Args:
        *ranks: whole numbers from 1 up.

    Raises:
        InputError: none is given, or one is no rank.

    Example:
        >>> grid(rank=masked(1, 4, 16)).masked
        {'rank': 16}
    """
    if not ranks or any(isinstance(rank, bool) or not isinstance(rank, int) or rank < 1 for rank in ranks):
        raise InputError(f"masked expects ranks, whole numbers from 1 up, as in masked(1, 4, 16), but got {ranks}")
    return Masked(ranks)


def field_types(config: type) -> dict[str, Any]:
    """The type of each setting.

    Raises:
        InputError: ``config`` is no frozen dataclass, or a field is no bool, int, float or str (or None).
    """
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise InputError(f"the settings of a study are a dataclass, but this is {config!r}")
    if "__dataclass_params__" not in vars(config):
        raise InputError(
            f"{config.__name__} is a class below a dataclass but none itself, so its fields are left out: write "
            "@dataclass(frozen=True) above it"
        )
    if not vars(config)["__dataclass_params__"].frozen:
        raise InputError(
            f"{config.__name__} must be frozen, so that a run's settings stay its own: write @dataclass(frozen=True)"
        )
    hints = get_type_hints(config)
    kinds = {field.name: hints[field.name] for field in dataclasses.fields(config)}
    for name, kind in kinds.items():
        if get_origin(kind) is not Literal and not members(kind) <= {bool, int, float, str, type(None)}:
            raise InputError(
                f"the field {name!r} of {config.__name__} is a {getattr(kind, '__name__', kind)}; settings are bool, "
                "int, float, str or None, so that a table can hold them: name what is meant, and make it in build"
            )
    return kinds


def _values(values: Any) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        return (values,)
    return tuple(value.item() if hasattr(value, "item") else value for value in values)


def _of_their_types(config: Any) -> Any:
    """The settings with floats where the fields are floats, and a seed that a program can hold."""
    kinds = field_types(type(config))
    values = {name: getattr(config, name) for name in kinds}
    if "seed" in values and (type(values["seed"]) is not int or not 0 <= values["seed"] < 2**32):
        raise InputError(f"a seed is a whole number from 0 to 2**32 - 1, but is {values['seed']}")
    floats = {n: float(v) for n, v in values.items() if float in members(kinds[n]) and type(v) is int}
    return dataclasses.replace(config, **floats)


def members(kind: Any) -> set[Any]:
    """The types that a field takes: itself, or the members of a union."""
    return set(get_args(kind)) if isinstance(kind, UnionType) or get_origin(kind) is Union else {kind}


def _check(name: str, value: Any, kind: Any) -> None:
    kinds = members(kind)
    if get_origin(kind) is Literal:
        fits = value in get_args(kind)
    else:
        fits = (
            type(value) in kinds or (value is None and type(None) in kinds) or (type(value) is int and float in kinds)
        )
    if not fits:
        raise InputError(f"{name} is a {getattr(kind, '__name__', kind)}, but the grid has {value!r}")
