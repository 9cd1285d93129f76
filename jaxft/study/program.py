"""A trace as a compiled program of one run, or of many side by side."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.study.trace import Outcome, Trace

Stack = Literal["auto", "vmap", "map"]
STACK = {"cpu": "map"}
"""What measured faster on each kind of device (`make bench`); on others stacked runs fill the chip."""


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        stack: "vmap" computes ``lanes`` runs side by side; "map" one after the other, each a call.
        lanes: runs a call; fewer are filled up, so that the bits of a run do not depend on its company.
        bytes: what a call needs on the device, the shared constants included.
        compile_seconds: the time it took to compile.
        call: ``call(constants, values) -> leaves``.
        trace: what it was compiled from.
    """

    stack: str
    lanes: int
    bytes: int
    compile_seconds: float
    call: Any
    trace: Trace

    def run(self, values: Sequence[Mapping[str, Any]]) -> tuple[list[Outcome], float]:
        """The outcome of each run, on the host, and the seconds all of them took.

        Args:
            values: of the traced settings; of "vmap" at most ``lanes`` of them.
        """
        given = [_arguments(self.trace, value) for value in values]
        began = time.monotonic()
        if self.stack == "map":
            leaves = [jax.device_get(self.call(self.trace.constants, one)) for one in given]
        else:
            padded = given + given[-1:] * (self.lanes - len(given))
            columns = [jnp.stack(column) for column in zip(*padded, strict=True)]
            stacked = jax.device_get(self.call(self.trace.constants, columns))
            leaves = [[np.asarray(leaf[lane]) for leaf in stacked] for lane in range(len(values))]
        seconds = time.monotonic() - began
        return [jax.tree.unflatten(self.trace.tree, run) for run in leaves], seconds


def compile_program(trace: Trace, *, lanes: int, stack: Stack = "auto", memory_limit: int | None = None) -> Program:
    """Compiles the runs of a trace, as many side by side as fit.

    Args:
        trace: of one structure.
        lanes: the runs there are.
        stack: "vmap" puts runs side by side, "map" runs one after the other with one program; "auto" is what measured
            faster on this backend.
        memory_limit: bytes a call may take; what the device has if None.

    Raises:
        InputError: not even one run fits.
    """
    if stack not in ("auto", "vmap", "map"):
        raise InputError(f"stack is 'auto', 'vmap' or 'map', but is {stack!r}")
    kind = STACK.get(jax.default_backend(), "vmap") if stack == "auto" else stack
    limit = device_bytes() if memory_limit is None else memory_limit
    lanes = 1 if kind == "map" else max(lanes, 1)
    program = _compiled(trace, kind, lanes)
    if program.bytes > limit and lanes > 1:
        shared = sum(np.asarray(constant).nbytes for constant in trace.constants)
        each = max((program.bytes - shared) / lanes, 1)
        program = _compiled(trace, kind, int(min(max((limit - shared) // each, 1), lanes - 1)))
    if program.bytes > limit:
        raise InputError(
            f"one run takes {program.bytes / 2**20:,.0f} MiB of the {limit / 2**20:,.0f} MiB there are: use smaller "
            "batches or a shorter max_length, or raise the memory limit"
        )
    return program


def _compiled(trace: Trace, kind: str, lanes: int) -> Program:
    def one(constants: list[Any], values: list[Any]) -> list[Any]:
        return jax.core.eval_jaxpr(trace.jaxpr, constants, *values)

    def side_by_side(constants: list[Any], values: list[Any]) -> list[Any]:
        return jax.vmap(lambda *lane: one(constants, list(lane)))(*values)

    shape = () if kind == "map" else (lanes,)
    values = [jax.ShapeDtypeStruct(shape, variable.aval.dtype) for variable in trace.jaxpr.invars]
    began = time.monotonic()
    compiled = jax.jit(one if kind == "map" else side_by_side).lower(trace.constants, values).compile()
    seconds = time.monotonic() - began
    memory = compiled.memory_analysis()
    parts = ("temp_size_in_bytes", "argument_size_in_bytes", "output_size_in_bytes")
    needed = sum(int(getattr(memory, part, 0)) for part in parts)
    return Program(kind, lanes, needed, seconds, compiled, trace)


def _arguments(trace: Trace, values: Mapping[str, Any]) -> list[Any]:
    return [
        jnp.asarray(values[name], variable.aval.dtype)
        for name, variable in zip(trace.names, trace.jaxpr.invars, strict=True)
    ]


def device_bytes() -> int:
    """Memory that a program may take: of the device, or on a CPU half of what the machine has."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"] * 0.9)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
