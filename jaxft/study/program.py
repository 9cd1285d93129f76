"""A trace as a compiled program of one run, or of many side by side."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.study.experiment import check_experiment
from jaxft.study.loop import run_loop
from jaxft.study.memory import device_bytes
from jaxft.study.prepare import prepare
from jaxft.study.trace import Build, Facts, Outcome, Trace, trace

Stack = Literal["auto", "vmap", "map", "loop"]
STACK = {"cpu": "map"}
"""What measured faster on each kind of device (`make bench`); on others stacked runs fill the chip."""


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        stack: "vmap" computes ``lanes`` runs side by side; "map" one after the other, each a call; "loop" one after
            the other, each step a call, with the rows on the host.
        lanes: runs a call; fewer are filled up, so that the bits of a run do not depend on its company.
        bytes: what a call needs on the device, the shared constants included.
        compile_seconds: the time it took to compile.
        call: ``call(constants, values) -> leaves``; of a loop ``call(values) -> Outcome``.
        trace: what it was compiled from.
    """

    stack: str
    lanes: int
    bytes: int
    compile_seconds: float
    call: Any
    trace: Trace

    @property
    def bytes_a_run(self) -> float:
        """What a run needs of its own, without what all runs share."""
        return max((self.bytes - self.trace.nbytes) / self.lanes, 1.0)

    def run(self, values: Sequence[Mapping[str, Any]]) -> tuple[list[Outcome], float]:
        """The outcome of each run, on the host, and the seconds all of them took.

        Args:
            values: of the traced settings; of "vmap" at most ``lanes`` of them.
        """
        if self.stack == "loop":
            began = time.monotonic()
            return [self.call(value) for value in values], time.monotonic() - began
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


def make_program(
    build: Build,
    config: Any,
    names: Sequence[str],
    masked: Mapping[str, int],
    facts: Facts,
    *,
    lanes: int,
    stack: Stack = "auto",
    memory_limit: int | None = None,
) -> Program:
    """The program of the runs of a structure: compiled whole where their data fit the device, else a loop of steps.

    Args:
        build: config -> Experiment.
        config: of one of the runs.
        names: the settings that are traced.
        masked: name -> the largest rank.
        facts: of one of the runs.
        lanes: the runs there are.
        stack: see `compile_program`; "loop" makes each step a call.
        memory_limit: bytes a call may take; what the device has if None.

    Raises:
        InputError: ``stack`` is another, or not even one run fits.
    """
    if stack not in get_args(Stack):
        raise InputError(f"stack is one of {', '.join(map(repr, get_args(Stack)))}, but is {stack!r}")
    limit = device_bytes() if memory_limit is None else memory_limit
    if stack == "loop" or (stack == "auto" and facts.nbytes > limit):

        def call(values: Mapping[str, Any]) -> Outcome:
            experiment = check_experiment(build(dataclasses.replace(config, **values)))
            return run_loop(experiment, prepare(experiment))

        return Program("loop", 1, facts.nbytes, 0.0, call, Trace(None, [], tuple(sorted(names)), None, None, 0.0))
    return compile_program(trace(build, config, names, masked), lanes=lanes, stack=stack, memory_limit=limit)


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
    kind = STACK.get(jax.default_backend(), "vmap") if stack == "auto" else stack
    limit = device_bytes() if memory_limit is None else memory_limit
    lanes = 1 if kind == "map" else max(lanes, 1)
    program = _compiled(trace, kind, lanes)
    while program.bytes > limit and program.lanes > 1:
        fits = int((limit - trace.nbytes) // program.bytes_a_run)
        program = _compiled(trace, kind, min(max(fits, 1), program.lanes - 1))
    if program.bytes > limit:
        raise InputError(
            f"one run takes {program.bytes / 2**20:,.3g} MiB of the {limit / 2**20:,.3g} MiB there are: use smaller "
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
