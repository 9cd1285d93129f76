"""Several adapters over one base in one batch, each row with its own, in one program."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.adapt.alike import check_alike
from jaxft.errors import InputError
from jaxft.trees import leaf_paths
from jaxft.types import Adaptation, Array, Batch, Delta, Frozen, Outputs
from jaxft.weights import lift


def stack_deltas(deltas: Sequence[Delta]) -> Delta:
    """Stacks the deltas of several adapters of one kind along a new first axis.

    Args:
        deltas: of one structure, with equal shapes and types: adapters of one adaptation.

    Raises:
        InputError: there is none, or they differ; the first path that does is named.

    Example:
        >>> stacked = stack_deltas([{"a": jnp.ones(3)}, {"a": jnp.zeros(3)}])
        >>> stacked["a"].shape
        (2, 3)
    """
    check_alike(deltas, "deltas to stack", dtypes=True)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *deltas)


def swap_delta(stacked: Delta, index: int | Array, delta: Delta) -> Delta:
    """Puts an adapter in the place of another; a program compiled for the stack serves the new one too.

    Args:
        stacked: as `stack_deltas` returns it.
        index: the place, which may be traced.
        delta: of one adapter, with the shapes and types of those in the stack.

    Raises:
        InputError: the delta differs from those in the stack, or the index is none of it.

    Example:
        >>> swap_delta({"a": jnp.zeros((2, 3))}, 1, {"a": jnp.ones(3)})["a"][:, 0]
        Array([0., 1.], dtype=float32)
    """
    count = _count(stacked)
    check_alike(
        [jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), stacked), delta],
        "deltas, one of the stack and the new one,",
        dtypes=True,
    )
    if not isinstance(index, jax.core.Tracer) and not 0 <= operator.index(index) < count:
        raise InputError(f"the stack has {count} adapters, numbered from 0, but the index is {index}")
    return jax.tree.map(lambda leaves, leaf: leaves.at[index].set(leaf), stacked, delta)


def serve(model_apply: Callable[..., Any], adaptation: Adaptation) -> Callable[..., Outputs]:
    """Makes a function that applies a model to a batch whose every row names its adapter.

    y_i = f(bind(frozen, δ_{id(i)}), x_i)

    It maps over rows with the frozen arrays unmapped, so that every product with the base is one product for the whole
    batch, and the arrays of the adapters are gathered row by row: any adaptation will do, but one whose delta holds
    whole weights gathers a copy of them for each row. Call it under ``jax.jit``: adapters and their places are
    arguments, and another adapter of the same shapes needs no other program.

    The frozen arrays are one for all. Adapters must come from one base and, where an adaptation draws random arrays
    that it freezes (VeRA, LoRA-FA) or changes the base (PiSSA), from one key.

    Args:
        model_apply: ``(params, batch, *, train=False, key=None) -> Outputs``, or an array, taken as logits.
        adaptation: of all adapters.

    Returns:
        ``(frozen, stacked, ids, batch) -> Outputs``: frozen as ``adaptation.init`` gives it, deltas from
        `stack_deltas`, ids ``[batch]`` of whole numbers, and a batch of arrays ``[batch, …]``. Outputs are those of
        each row alone with its adapter. Of ids that are traced, those out of range give not-a-number for floats.

    Raises:
        InputError: when called with ids that are no vector of whole numbers, one for each row, or out of range.

    Example:
        >>> import jaxft as ft
        >>> model = lambda params, batch, *, train=False, key=None: batch["x"] @ params["kernel"]
        >>> adaptation = ft.lora("kernel", rank=1, alpha=1.0)
        >>> frozen, _ = adaptation.init(jax.random.key(0), {"kernel": jnp.zeros((3, 2))})
        >>> first, second = ({"kernel": {"a": jnp.ones((3, 1)), "b": jnp.full((1, 2), b)}} for b in (1.0, 2.0))
        >>> answer = jax.jit(serve(model, adaptation))
        >>> outputs = answer(frozen, stack_deltas([first, second]), jnp.array([1, 0, 1]), {"x": jnp.ones((3, 3))})
        >>> outputs.logits[:, 0]
        Array([6., 3., 6.], dtype=float32)

    References:
        Sheng et al., "S-LoRA: Serving Thousands of Concurrent LoRA Adapters", 2024.
    """
    apply = lift(model_apply)

    def answer(frozen: Frozen, stacked: Delta, ids: Array, batch: Batch) -> Outputs:
        _check_ids(ids, _count(stacked), batch)
        places = jnp.where(jnp.asarray(ids) < 0, _count(stacked), ids)  # a negative one would count from the end
        deltas = jax.tree.map(lambda leaves: jnp.take(leaves, places, axis=0, mode="fill"), stacked)

        def row(delta: Delta, one: Batch) -> Outputs:
            result = apply(adaptation.bind(frozen, delta), jax.tree.map(lambda leaf: leaf[None], one))
            outputs = result if isinstance(result, Outputs) else Outputs(logits=result)
            return jax.tree.map(lambda leaf: leaf[0], outputs)

        return jax.vmap(row)(deltas, jax.tree.map(jnp.asarray, batch))

    return answer


def _count(stacked: Delta) -> int:
    leaves = leaf_paths(stacked)
    if not leaves:
        raise InputError("the stacked deltas hold no array: stack the deltas of adapters with stack_deltas")
    return next(iter(leaves.values())).shape[0]


def _check_ids(ids: Any, count: int, batch: Batch) -> None:
    if jnp.ndim(ids) != 1 or not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise InputError(
            f"ids expects a vector of whole numbers, one for each row, but got {jnp.result_type(ids).name}"
            f"{list(jnp.shape(ids))}"
        )
    for path, leaf in leaf_paths(batch).items():
        if jnp.shape(leaf)[:1] != jnp.shape(ids):
            raise InputError(
                f"the batch needs a row for each of the {len(ids)} ids, but {path!r} is {list(jnp.shape(leaf))}"
            )
    if isinstance(ids, jax.core.Tracer):
        return
    wrong = [int(index) for index in np.asarray(ids) if not 0 <= index < count]
    if wrong:
        raise InputError(f"the stack has {count} adapters, numbered from 0, but the ids name {wrong[0]}")
