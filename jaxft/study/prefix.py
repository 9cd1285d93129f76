"""The part of a forward pass that never changes, computed once for a data set.

Where the lowest layers are frozen and the inputs are fixed, every step computes the same activations from them. What
is known before training starts is found in the program of the forward pass, whichever model it is of: a value is known
when it depends on frozen arrays and the batch alone. Of the known values those are kept that save the products behind
them; the rest of the forward pass starts from there.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.study.prefix_columns import Activations, PrefixRefused, check_rows
from jaxft.study.prefix_cut import Cut, find_cut
from jaxft.study.prefix_program import Operand, Program, is_concrete, shape_of, trace
from jaxft.types import PREFIX, Adaptation, Batch, Delta, Frozen, Key, Outputs, Params, PyTree
from jaxft.weights import lift, understands_structured

logger = logging.getLogger(__name__)

_LEAST = 0.05
_TRACES = 16
_READ = ("logits", "features", "stats", "token_logits")
"""Parts of the outputs that are sure to be read; others, which nobody may read, cost a compiled program nothing."""


class Prefix(NamedTuple):
    """A forward pass in two parts.

    Attributes:
        apply: ``(params, batch, *, train=False, key=None) -> Outputs``, as the model's own. Where the batch has
            ``"prefix"``, a tuple of arrays ``[batch, …]``, only the rest is computed.
        columns: ``columns(dataset_columns, batch_size) -> tuple`` of arrays ``[rows, …]``, the
            activations of every row; refused where batches of this size are computed by another program.
        saved: share of the multiply-adds of the forward pass that the prefix holds, 0 to 1.
        bytes_per_row: size of the activations of a row.
    """

    apply: Callable[..., Outputs]
    columns: Callable[..., tuple[np.ndarray, ...]]
    saved: float
    bytes_per_row: int


def known_leaves(adaptation: Adaptation, frozen: Frozen, delta: Delta, key: Key | None) -> list[bool]:
    """Says of each array of the bound params whether it depends on nothing that is learned or random.

    Args:
        adaptation: what learns.
        frozen: its frozen arrays; those that are traced already are not known.
        delta: arrays or shapes.
        key: of ``bind``; None where it is called without.

    Example:
        >>> from jaxft.adapt import tune
        >>> params = {"encoder": jnp.ones((4, 4)), "head": jnp.ones((4, 2))}
        >>> adaptation = tune("head")
        >>> frozen, delta = adaptation.init(jax.random.key(0), params)
        >>> known_leaves(adaptation, frozen, delta, jax.random.key(1))
        [True, False]
    """
    known: list[bool] = []

    def bound(delta: Delta, key: Key | None) -> None:
        known.extend(map(is_concrete, jax.tree.leaves(adaptation.bind(frozen, delta, key=key))))

    jax.eval_shape(bound, delta, key)
    return known


def find_prefix(
    apply: Callable[..., Any], params: Params, known: PyTree, batch: Batch, *, train: bool = True
) -> Prefix | None:
    """Finds the part of a forward pass that is the same in every step.

    Args:
        apply: of the model.
        params: as bound by the adaptation, structured weights among them; the known leaves have values.
        known: for each array of the params, whether it never changes; see :func:`known_leaves`.
        batch: arrays or shapes ``[batch, …]``, without labels and mask.
        train: the mode of the forward pass.

    Returns:
        None where less than a twentieth of the forward pass is known, or where the activations of a row depend on the
        rows beside it, as those under a batch norm in training do.

    Example:
        >>> def apply(params, batch, *, train=False, key=None):
        ...     return jnp.tanh(batch["x"] @ params["encoder"]) @ params["head"]
        >>> params = {"encoder": jnp.ones((8, 4)), "head": jnp.ones((4, 2))}
        >>> prefix = find_prefix(apply, params, [True, False], {"x": jnp.ones((3, 8))})
        >>> prefix.saved, prefix.bytes_per_row
        (0.8, 16)
        >>> columns = prefix.columns({"x": np.ones((10, 8), np.float32)}, 3)
        >>> columns[0].shape
        (10, 4)
        >>> prefix.apply(params, {"x": jnp.ones((3, 8)), "prefix": (columns[0][:3],)}).shape
        (3, 2)
    """
    forward = _Forward(lift(apply), train, tuple(sorted(set(batch) - {PREFIX})))
    leaves, structure = jax.tree.flatten(params)
    inputs = [batch[name] for name in forward.names]
    same = [bool(take) and is_concrete(leaf) for leaf, take in zip(leaves, jax.tree.leaves(known), strict=True)]
    plan = _plan(forward, leaves, structure, inputs, same)
    if plan is None or plan.cut.saved < _LEAST:
        return None
    with jax.ensure_compile_time_eval():
        values = [leaf if take else shape_of(leaf) for leaf, take in zip(leaves, same, strict=True)]

        def program_of(inputs: Sequence[Any]) -> Program:
            program, _ = forward.trace(structure, values, inputs, forward.key)
            if program.signature() != plan.signature:
                raise PrefixRefused(
                    f"the forward pass of {inputs[0].shape[0]} rows is another program than that of "
                    f"{batch[forward.names[0]].shape[0]}: take batches of as many"
                )
            return program

        activations = Activations(program_of, values, plan.cut.kept)
        if all(map(is_concrete, inputs)):
            try:
                check_rows(activations, [np.asarray(value) for value in inputs], inputs[0].shape[0])
            except PrefixRefused as refusal:
                logger.info("no activations are kept: %s", refusal)
                return None

    def columns(
        dataset_columns: Mapping[str, np.ndarray], batch_size: int, *, limit_bytes: int | None = None
    ) -> tuple[np.ndarray, ...]:
        with jax.ensure_compile_time_eval():
            return activations.columns([dataset_columns[name] for name in forward.names], batch_size, limit_bytes)

    return Prefix(_resume(forward, plan), columns, plan.cut.saved, plan.cut.bytes_per_row)


class _Plan(NamedTuple):
    cut: Cut
    signature: tuple[Any, ...]
    structure: Any


def _plan(
    forward: _Forward, leaves: Sequence[Any], structure: Any, inputs: Sequence[Any], same: Sequence[bool]
) -> _Plan | None:
    if not inputs:
        return None
    double = [jax.ShapeDtypeStruct((2 * value.shape[0], *value.shape[1:]), value.dtype) for value in inputs]
    here, returned = forward.trace(structure, leaves, inputs, forward.key)
    there, _ = forward.trace(structure, leaves, double, forward.key)
    if here.signature() != there.signature():
        return None
    known = [*same, *(True for _ in inputs), *(False for _ in jax.tree.leaves(forward.key))]
    cut = find_cut(here, there, known, len(leaves), _wanted(here, returned))
    return _Plan(cut, here.signature(), structure)


def _wanted(program: Program, returned: Any) -> list[Operand]:
    """The outputs of a program that are sure to be read."""
    outputs = jax.tree.unflatten(returned, program.outputs)
    if isinstance(outputs, Outputs):
        outputs = Outputs(**{name: getattr(outputs, name) for name in _READ})
    return jax.tree.leaves(outputs)


class _Forward:
    """The programs of a model's forward pass, one for each set of shapes."""

    def __init__(self, apply: Callable[..., Any], train: bool, names: tuple[str, ...]):
        self.apply, self.train, self.names = apply, train, names
        self.key = jax.eval_shape(lambda: jax.random.key(0)) if train else None
        self._traced: OrderedDict[Any, tuple[Program, Any]] = OrderedDict()

    def trace(
        self, structure: Any, leaves: Sequence[Any], inputs: Sequence[Any], key: Key | None
    ) -> tuple[Program, Any]:
        """The program whose arguments are the arrays of the params, the inputs and the key."""
        shapes = jax.tree.map(shape_of, (list(leaves), list(inputs), key))
        flat, form = jax.tree.flatten(shapes)
        place = structure, form, tuple((x.shape, x.dtype, x.weak_type) for x in flat)
        if place not in self._traced:

            def run(leaves: list[Any], inputs: list[Any], key: Key | None) -> Any:
                params = jax.tree.unflatten(structure, leaves)
                return self.apply(params, dict(zip(self.names, inputs, strict=True)), train=self.train, key=key)

            self._traced[place] = trace(run, *shapes)
        self._traced.move_to_end(place)
        while len(self._traced) > _TRACES:
            self._traced.popitem(last=False)
        return self._traced[place]


def _resume(forward: _Forward, plan: _Plan) -> Callable[..., Any]:
    """The forward pass that starts from the activations of the batch, where it has them."""

    def apply(params: Params, batch: Batch, *, train: bool = False, key: Key | None = None) -> Any:
        kept = batch.get(PREFIX)
        inputs = {name: value for name, value in batch.items() if name != PREFIX}
        if kept is None or train != forward.train or tuple(sorted(inputs)) != forward.names:
            return forward.apply(params, inputs, train=train, key=key)
        leaves, structure = jax.tree.flatten(params)
        values = [inputs[name] for name in forward.names]
        program, returned = forward.trace(structure, leaves, values, key)
        if structure != plan.structure or program.signature() != plan.signature:
            return forward.apply(params, inputs, train=train, key=key)
        given = dict(zip(program.inputs, [*leaves, *values, *jax.tree.leaves(key)], strict=True))
        for number, array in zip(plan.cut.kept, kept, strict=True):
            given[number] = jnp.asarray(array).reshape(program.avals[number].shape)
        return jax.tree.unflatten(returned, program.run(given, program.outputs, effects=True))

    return understands_structured(apply)
