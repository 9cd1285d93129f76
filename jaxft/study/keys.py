"""The key of a run: the same for the same run, on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError

_DIGITS = 16


def run_key(config: Mapping[str, Any], *, code: str, base: str, built: Mapping[str, Any], data: str) -> str:
    """sha256 of the canonical JSON of all that a run depends on, cut to 16 hexadecimal digits.

    A float and an int of the same value are different, as they are in a program: 1 is structure, 1.0 is traced.
    A tuple and a list are the same, so that a row read back from JSON has the key it was written under.

    Args:
        config: fields of the run: strings, ints, finite floats, bools, None, and tuples of those.
        code: hash of the sources.
        base: fingerprint of the base parameters and of all other arrays that are no rows.
        built: what else shapes the run, such as its steps; plain values.
        data: fingerprint of the data.

    Raises:
        InputError: a value is none of those; names the field.

    Example:
        >>> run_key({"lr": 1e-3, "seed": 0}, code="c", base="b", built={}, data="d")
        '7dfaf96dec024501'
        >>> run_key({"seed": 0, "lr": 0.001}, code="c", base="b", built={}, data="d")
        '7dfaf96dec024501'
    """
    whole = {"config": plain(config), "code": code, "base": base, "built": plain(built), "data": data}
    return hashlib.sha256(canonical(whole).encode()).hexdigest()[:_DIGITS]


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run as JSON holds them: tuples become lists, minus zero becomes zero.

    Raises:
        InputError: a value cannot be held.

    Example:
        >>> plain({"layers": (0, 1), "decay": -0.0})
        {'layers': [0, 1], 'decay': 0.0}
    """
    for name in config:
        if not isinstance(name, str):
            raise InputError(f"the fields of a run are named by strings, got {name!r}: name it by one")
    return {name: _plain(name, value) for name, value in config.items()}


def canonical(value: Any) -> str:
    """JSON of a plain value with sorted names and no spaces.

    Example:
        >>> canonical({"seed": 0, "lr": 1e-3})
        '{"lr":0.001,"seed":0}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"field {name!r} of a run is {value}, which JSON cannot hold: give a finite number")
        return float(value) + 0.0
    if isinstance(value, tuple | list):
        return [_plain(name, item) for item in value]
    raise InputError(
        f"field {name!r} of a run is a {type(value).__name__}: expected a string, int, float, bool, None or a tuple "
        "of those; give a name or a number, and build the object from it"
    )
