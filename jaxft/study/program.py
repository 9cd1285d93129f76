"""A trace as a compiled program of one run, or of many side by side, called in as many threads as pay."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.study.experiment import check_experiment
from jaxft.study.loop import run_loop, step_flops
from jaxft.study.memory import device_bytes, threads
from jaxft.study.prepare import prepare
from jaxft.study.trace import Build, Facts, Outcome, Trace, trace

Stack = Literal["auto", "vmap", "map", "loop"]
STACK = {"cpu": "map"}
"""What measured faster on each kind of device (`make bench`); on others stacked runs fill the chip."""


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        stack: "vmap" computes ``lanes`` runs side by side; "map" each in a call of its own; "loop" one after the
            other, each step a call, with the rows on the host.
        lanes: runs a call; fewer are filled up, so that the bits of a run do not depend on its company.
        threads: calls at a time, each in a thread of its own; they share the constants.
        bytes: what a call needs on the device, the shared constants included.
        compile_seconds: the time it took to compile.
        call: ``call(constants, values) -> leaves``; of a loop ``call(values) -> Outcome``.
        trace: what it was compiled from.
    """

    stack: str
    lanes: int
    threads: int
    bytes: int
    compile_seconds: float
    call: Any
    trace: Trace

    @property
    def at_once(self) -> int:
        """Runs that are under way at the same time."""
        return self.lanes * self.threads

    @property
    def bytes_a_run(self) -> float:
        """What a run needs of its own, without what all runs share."""
        return max((self.bytes - self.trace.nbytes) / self.lanes, 1.0)

    def run(self, values: Sequence[Mapping[str, Any]]) -> tuple[list[Outcome], float]:
        """The outcome of each run, on the host, and the seconds all of them took.

        Args:
            values: of the traced settings.
        """
        if self.stack == "loop":
            began = time.monotonic()
            return [self.call(value) for value in values], time.monotonic() - began
        given = [_arguments(self.trace, value) for value in values]
        calls = [self._joined(given[first : first + self.lanes]) for first in range(0, len(given), self.lanes)]
        began = time.monotonic()
        with ThreadPoolExecutor(self.threads) as pool:
            found = list(pool.map(lambda columns: jax.device_get(self.call(self.trace.constants, columns)), calls))
        seconds = time.monotonic() - began
        if self.stack == "vmap":
            found = [[np.asarray(leaf[lane]) for leaf in leaves] for leaves in found for lane in range(self.lanes)]
        return [jax.tree.unflatten(self.trace.tree, leaves) for leaves in found[: len(given)]], seconds

    def _joined(self, given: list[list[Any]]) -> list[Any]:
        """The arguments of a call: of the one run, or by column of as many as it has lanes."""
        if self.stack == "map":
            return given[0]
        padded = given + given[-1:] * (self.lanes - len(given))
        return [jnp.stack(column) for column in zip(*padded, strict=True)]


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
        memory_limit: see there; what the device has if None.

    Raises:
        InputError: ``stack`` is another, or not even one run fits.
    """
    if stack not in get_args(Stack):
        raise InputError(f"stack is one of {', '.join(map(repr, get_args(Stack)))}, but is {stack!r}")
    limit = device_bytes() if memory_limit is None else memory_limit
    if stack == "loop" or (stack == "auto" and facts.nbytes > limit):
        return _loop(build, config, names, facts)
    traced = trace(build, config, names, masked, facts.prepared)
    return compile_program(traced, lanes=lanes, stack=stack, memory_limit=limit)


def _loop(build: Build, config: Any, names: Sequence[str], facts: Facts) -> Program:
    """Runs of which each step is a call, and the rows of all of them."""
    first = check_experiment(build(config))
    rows = prepare(first) if facts.prepared is None else facts.prepared

    def call(values: Mapping[str, Any]) -> Outcome:
        return run_loop(check_experiment(build(dataclasses.replace(config, **values))), rows)

    known = Trace(None, [], tuple(sorted(names)), None, step_flops(first, rows), 0.0)
    return Program("loop", 1, 1, facts.nbytes, 0.0, call, known)


def compile_program(trace: Trace, *, lanes: int, stack: Stack = "auto", memory_limit: int | None = None) -> Program:
    """Compiles the runs of a trace, as many side by side as fit.

    Args:
        trace: of one structure.
        lanes: the runs there are.
        stack: "vmap" puts runs side by side, "map" calls one program for each; "auto" is what measured faster on this
            backend. On a CPU as many calls are made at a time as it has cores and the limit allows.
        memory_limit: bytes that the calls made at a time may take; what the device has if None.

    Raises:
        InputError: not even one run fits.
    """
    kind = STACK.get(jax.default_backend(), "vmap") if stack == "auto" else stack
    limit = device_bytes() if memory_limit is None else memory_limit
    runs = max(lanes, 1)
    program = _compiled(trace, kind, 1 if kind == "map" else runs)
    while program.bytes > limit and program.lanes > 1:
        fits = int((limit - trace.nbytes) // program.bytes_a_run)
        program = _compiled(trace, kind, min(max(fits, 1), program.lanes - 1))
    if program.bytes > limit:
        raise InputError(
            f"one run takes {program.bytes / 2**20:,.3g} MiB of the {limit / 2**20:,.3g} MiB there are: use smaller "
            "batches or a shorter max_length, or raise the memory limit"
        )
    calls = -(-runs // program.lanes)
    fits = int((limit - trace.nbytes) // (program.lanes * program.bytes_a_run))
    return program._replace(threads=max(min(calls, fits, threads()), 1))


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
    return Program(kind, lanes, 1, needed, seconds, compiled, trace)


def _arguments(trace: Trace, values: Mapping[str, Any]) -> list[Any]:
    return [
        jnp.asarray(values[name], variable.aval.dtype)
        for name, variable in zip(trace.names, trace.jaxpr.invars, strict=True)
    ]
