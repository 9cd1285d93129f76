"""Real TPU slices to compile for, on a machine that has none."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from typing import Any, NamedTuple

from jaxft.errors import InputError

_MEMORY = {"TPU v2": 16, "TPU v3": 32, "TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}
"""GiB of a chip (Cloud TPU documentation, system architecture of each version)."""

_QUIET = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # to compile takes no chip, so other processes may do the same
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
"""Environment of libtpu where there is no TPU to ask."""


class Topology(NamedTuple):
    """The devices of a slice.

    Attributes:
        name: such as "v5e:4x4".
        kind: what JAX calls a device.
        devices: to build a mesh on, and to compile for; nothing runs on them.
        bytes: memory of a device; None where it is not known.
    """

    name: str
    kind: str
    devices: tuple[Any, ...]
    bytes: int | None


def tpu_topology(name: str) -> Topology:
    """A TPU slice by version and shape, from libtpu's own description of it.

    Args:
        name: version and chips along each axis, such as "v5e:4x4", "v6e:2x2", "v4:2x2x2".

    Raises:
        InputError: libtpu is not installed, or knows no such slice.

    Where libtpu is installed, every JAX program looks for a TPU first: ``JAX_PLATFORMS=cpu`` spares it the search.

    Example:
        >>> tpu_topology("v5e")
        Traceback (most recent call last):
        jaxft.errors.InputError: a TPU topology is a version and a shape such as v5e:4x4 or v4:2x2x2; got 'v5e'
    """
    found = re.fullmatch(r"\w+:(\d+(?:x\d+)*)", name)
    if found is None:
        raise InputError(f"a TPU topology is a version and a shape such as v5e:4x4 or v4:2x2x2; got {name!r}")
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "to compile for a TPU the package libtpu must be installed: pip install 'jaxft[topology]' (Linux alone)"
        )
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        devices: tuple[Any, ...] = tuple(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except Exception as error:
        raise InputError(
            f"libtpu knows no slice {name!r} ({str(error).strip()}); examples: v5e:2x2, v5e:4x4, v6e:4x4, v4:2x2x2, "
            "v5p:2x2x2"
        ) from error
    chips = math.prod(map(int, found[1].split("x")))
    kind = devices[0].device_kind
    memory = _MEMORY.get(kind)
    return Topology(name, kind, devices, None if memory is None else memory * 2**30 * chips // len(devices))
