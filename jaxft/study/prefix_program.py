"""A forward pass as a flat list of equations, of which any part can be computed from any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Literal
from jax.extend.core.primitives import remat_p
from jax.interpreters.partial_eval import dce_jaxpr

_CALLS = ("jit", "pjit", "closed_call", "core_call")
_BODIES = ("jaxpr", "call_jaxpr", "body_jaxpr", "fun_jaxpr")


@dataclass(frozen=True, eq=False)
class Constant:
    """An operand that is written into the program."""

    value: Any


Operand = int | Constant
"""A value of the program by its number, or a constant."""


class Equation(NamedTuple):
    """outputs = primitive(inputs), each value by its number.

    Attributes:
        source: the equation of the jaxpr: its primitive, parameters and context.
        products: multiply-adds of the matrix products and convolutions in it.
    """

    source: Any
    inputs: tuple[Operand, ...]
    outputs: tuple[int, ...]
    products: int


class Program(NamedTuple):
    """Equations in order; calls are written out.

    Attributes:
        equations: each after those whose outputs it reads.
        inputs: numbers of the arguments.
        outputs: what is returned.
        avals: shape and dtype of every value.
        makers: for a value that an equation makes, the index of that equation.
    """

    equations: list[Equation]
    inputs: list[int]
    outputs: list[Operand]
    avals: list[Any]
    makers: dict[int, int]

    def signature(self) -> tuple[Any, ...]:
        """What two programs share of which every value has the same number and the same meaning."""
        names = tuple(equation.source.primitive.name for equation in self.equations)
        return len(self.inputs), len(self.avals), tuple(map(_number, self.outputs)), names

    def needed(self, wanted: Iterable[Operand], given: Iterable[int] = ()) -> list[int]:
        """Indices, in order, of the equations that the wanted values need when some values are given."""
        found, seen = set[int](), set(given)
        waiting = [value for value in wanted if isinstance(value, int)]
        while waiting:
            value = waiting.pop()
            if value in seen or value not in self.makers:
                continue
            seen.add(value)
            if self.makers[value] not in found:
                found.add(self.makers[value])
                waiting += [x for x in self.equations[self.makers[value]].inputs if isinstance(x, int)]
        return sorted(found)

    def run(self, given: Mapping[int, Any], wanted: Sequence[Operand], *, effects: bool = False) -> list[Any]:
        """Computes the wanted values from the given ones, inputs among them; with all effects on request."""
        steps = self.needed(wanted, given)
        if effects:
            acting = [i for i, equation in enumerate(self.equations) if equation.source.effects]
            read = [x for i in acting for x in self.equations[i].inputs]
            steps = sorted({*steps, *acting, *self.needed(read, given)})
        values = dict(given)

        def read_value(operand: Operand) -> Any:
            return values[operand] if isinstance(operand, int) else operand.value

        for step in steps:
            equation = self.equations[step]
            primitive = equation.source.primitive
            with equation.source.ctx.manager:
                found = primitive.bind(
                    *map(read_value, equation.inputs), **primitive.get_bind_params(equation.source.params)
                )
            for number, value in zip(equation.outputs, found if primitive.multiple_results else [found], strict=True):
                values.setdefault(number, value)
        return [read_value(operand) for operand in wanted]


def trace(function: Callable[..., Any], *args: Any) -> tuple[Program, Any]:
    """The program of a function of pytrees of arrays or shapes, and the structure of what it returns."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    program = Program([], [], [], [], {})
    names: dict[Any, Operand] = {}
    for variable in closed.jaxpr.invars:
        names[variable] = _new(program, variable.aval)
        program.inputs.append(len(program.avals) - 1)
    program.outputs.extend(_write(program, closed, names))
    return program, jax.tree.structure(shapes)


def _write(program: Program, closed: ClosedJaxpr, names: dict[Any, Operand]) -> list[Operand]:
    """Appends the equations of a jaxpr whose arguments have names; returns its outputs."""
    for variable, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        names[variable] = Constant(value)

    def operand(atom: Any) -> Operand:
        return Constant(atom.val) if isinstance(atom, Literal) else names[atom]

    for equation in closed.jaxpr.eqns:
        if equation.primitive is remat_p:
            equation = _without_idle(equation)
        inputs = tuple(map(operand, equation.invars))
        if equation.primitive.name in _CALLS:
            body = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            outputs = _write(program, body, dict(zip(body.jaxpr.invars, inputs, strict=True)))
            names.update(zip(equation.outvars, outputs, strict=True))
            continue
        numbers = []
        for variable in equation.outvars:
            number = _new(program, variable.aval)
            numbers.append(number)
            names[variable] = number
            program.makers[number] = len(program.equations)
        program.equations.append(Equation(equation, inputs, tuple(numbers), products(equation)))
    return list(map(operand, closed.jaxpr.outvars))


def _without_idle(equation: Any) -> Any:
    """A rematerialised body without the arguments it never reads, such as the key of a dropout that is off."""
    body, used = dce_jaxpr(equation.params["jaxpr"], [True] * len(equation.outvars))
    inputs = [variable for variable, read in zip(equation.invars, used, strict=True) if read]
    return equation.replace(invars=inputs, params=equation.params | {"jaxpr": body})


def _new(program: Program, aval: Any) -> int:
    program.avals.append(aval)
    return len(program.avals) - 1


def _number(operand: Operand) -> int:
    return operand if isinstance(operand, int) else -1


def products(equation: Any) -> int:
    """Multiply-adds of the matrix products and convolutions in an equation of a jaxpr."""
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left, out = equation.invars[0].aval, equation.outvars[0].aval
        return math.prod(out.shape) * math.prod(left.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, out = equation.invars[1].aval, equation.outvars[0].aval
        return (
            math.prod(out.shape)
            * math.prod(kernel.shape)
            // kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        )
    if name == "cond":
        return max(sum(map(products, branch.jaxpr.eqns)) for branch in equation.params["branches"])
    bodies = [equation.params[key] for key in _BODIES if key in equation.params]
    inside = sum(products(inner) for body in bodies for inner in getattr(body, "jaxpr", body).eqns)
    return inside * equation.params.get("length", 1)


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype under which an array, of numpy or of jax, enters a program."""
    if isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))
    aval: Any = jax.typeof(leaf)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def is_concrete(leaf: Any) -> bool:
    """Whether a leaf is an array with values."""
    return not isinstance(leaf, (jax.core.Tracer, jax.ShapeDtypeStruct))


def bytes_of(aval: Any) -> int:
    """Size of an array."""
    return math.prod(aval.shape) * aval.dtype.itemsize
