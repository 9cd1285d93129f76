"""Where to cut a forward pass in two: which of the values that never change to keep, and which to compute again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxft.study.prefix_program import Operand, Program, bytes_of

_RECOMPUTED = 4.0
"""A share s of the products, computed again, costs as much as 4 s of the bytes that would keep all products."""
_SCALE = 10**6
_ENDLESS = 2**30


class Cut(NamedTuple):
    """What is kept of a forward pass.

    Attributes:
        kept: numbers of the values that are kept, a row of the data set each.
        saved: share of the products of the forward pass that need not be computed.
        bytes_per_row: of the values kept.
    """

    kept: tuple[int, ...]
    saved: float
    bytes_per_row: int


class _Sides(NamedTuple):
    """What is known of the values: those that never change, those that vary with the row, those that can be kept."""

    known: set[int]
    varying: set[int]
    rows: dict[int, int]


def find_cut(program: Program, double: Program, known: Sequence[bool], first: int, wanted: list[Operand]) -> Cut:
    """Finds the values to keep.

    A product is a matrix product or convolution. Values behind one are kept where that is cheapest, everything cheap
    that stands between what is kept and what learns is computed again: a minimal cut of the graph of known values.

    Args:
        program: the forward pass on B rows.
        double: the same on 2 B rows, which shows the values that have one part for each row.
        known: for each input of the program, whether it is the same in every step.
        first: the number of inputs that are params; those behind them, where known, are the batch.
        wanted: the outputs that count; others are computed only where somebody reads them.
    """
    sides = _sides(program, double, known, first)
    forward = program.needed(wanted)
    rest = [i for i in forward if not sides.known.issuperset(program.equations[i].outputs)]
    read = [x for i in rest for x in program.equations[i].inputs] + wanted
    targets = {x for x in read if isinstance(x, int) and x in sides.varying}
    total = sum(program.equations[i].products for i in forward)
    if not total or not targets:
        return Cut((), 0.0, 0)
    widest = max(sides.rows.values(), default=1)
    everything = _minimal(program, sides, targets, total, unit=100.0 * widest, price=100.0)
    size = sum(sides.rows[value] for value in everything)
    if not size:
        return Cut((), 0.0, 0)
    kept = _minimal(program, sides, targets, total, unit=size, price=_RECOMPUTED)
    left = sum(program.equations[i].products for i in program.needed(wanted, kept))
    return Cut(kept, 1 - left / total, sum(sides.rows[value] for value in kept))


def _sides(program: Program, double: Program, known: Sequence[bool], first: int) -> _Sides:
    unchanging = {number for number, same in zip(program.inputs, known, strict=True) if same}
    varying = set(program.inputs[first:]) & unchanging
    rows = {}
    for equation in program.equations:
        inputs = [x for x in equation.inputs if isinstance(x, int)]
        if equation.source.effects or not unchanging.issuperset(inputs):
            continue
        unchanging.update(equation.outputs)
        if not varying.isdisjoint(inputs):
            varying.update(equation.outputs)
    batch = program.avals[program.inputs[first]].shape[0]
    for value in varying:
        here, there = program.avals[value], double.avals[value]
        by_row = here.ndim > 0 and here.shape[0] % batch == 0 and there.shape == (2 * here.shape[0], *here.shape[1:])
        if by_row and not jax.dtypes.issubdtype(here.dtype, jax.dtypes.extended):
            rows[value] = bytes_of(here) // batch
    return _Sides(unchanging, varying, rows)


def _minimal(
    program: Program, sides: _Sides, targets: set[int], total: int, *, unit: float, price: float
) -> tuple[int, ...]:
    """The cheapest set of values to keep: bytes / unit + price * share of the products computed again.

    Every value is two nodes, needed and at hand. Between them lies the cost of keeping it, before them the price of
    making it, and what makes a value must be at hand where the value is made: a minimal cut between source and sink,
    of several the one nearest to what learns.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    source, sink = 2 * len(program.avals), 2 * len(program.avals) + 1
    edges: dict[tuple[int, int], int] = {}
    behind = program.needed(targets)
    for equation in (program.equations[i] for i in behind):
        cost = 0 if not equation.products else max(1, round(_SCALE * price * equation.products / total))
        for value in equation.outputs:
            if value not in sides.varying:
                continue
            if cost:
                edges[source, 2 * value] = min(cost, _ENDLESS)
            bytes_kept = sides.rows.get(value)
            keep = _ENDLESS if bytes_kept is None else max(1, min(_ENDLESS, round(_SCALE * bytes_kept / unit)))
            edges[2 * value, 2 * value + 1] = keep
            for before in equation.inputs:
                if isinstance(before, int) and before in sides.varying and before in program.makers:
                    edges[2 * before + 1, 2 * value] = _ENDLESS
    for value in targets & program.makers.keys():
        edges[2 * value + 1, sink] = _ENDLESS
    if not any(start == source for start, _ in edges):
        return ()
    starts, ends = zip(*edges, strict=True)
    capacity = csr_array((np.array(list(edges.values()), np.int32), (starts, ends)), shape=(sink + 1, sink + 1))
    left = (capacity - maximum_flow(capacity, source, sink).flow).tocsr()
    left.eliminate_zeros()
    needed = set(breadth_first_order(left.T.tocsr(), sink, return_predecessors=False).tolist())
    cut = ((before, after) for before, after in edges if after == before + 1 and before % 2 == 0)
    return tuple(sorted(before // 2 for before, after in cut if after in needed and before not in needed))
