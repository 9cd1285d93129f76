"""What a training step costs, read from its compiled program before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxft.errors import InputError
from jaxft.train.sharding import Placement, batch_shardings, shardings
from jaxft.types import Batch, Params, PyTree, Step


class Cost(NamedTuple):
    """The cost of a step on each device; of several devices each has its part.

    Attributes:
        trained: parameters that learn, over all devices.
        flops: of a step, as the compiler counts them.
        frozen_bytes: arrays that never change: base model, teacher.
        learned_bytes: what learns, memory of the objective and running statistics.
        optimizer_bytes: slots of the optimizer.
        argument_bytes: all that a step is given: the three above and the batch, as the compiler lays them out.
        temporary_bytes: activations, gradients and whatever else lives during the step.
        total_bytes: arguments, temporaries, and results that take the place of no argument.
    """

    trained: int
    flops: float
    frozen_bytes: int
    learned_bytes: int
    optimizer_bytes: int
    argument_bytes: int
    temporary_bytes: int
    total_bytes: int


def cost(step: Step, params: Params, batch: Batch, *, placement: Placement | None = None) -> Cost:
    """Compiles a step and reads what it costs; no array is computed, and shapes in their place are enough.

    Args:
        step: from `make_step`.
        params: of the base model; arrays or ``jax.ShapeDtypeStruct``.
        batch: the whole batch of a step, likewise.
        placement: the devices to compile for, such as those of `tpu_topology`, which need not exist; one of this
            process if None. Paths begin with "frozen/" and "state/".

    Raises:
        InputError: what ``step.init`` refuses, rows that cannot be split over the devices, or a compiler that does not
            say what memory a program takes.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> import jaxft as ft
        >>> def model(params, batch, *, train=False, key=None):
        ...     return batch["x"] @ params["kernel"]
        >>> step = ft.make_step(model, ft.lora("kernel", rank=2), ft.cross_entropy(), optax.adam(1e-3))
        >>> batch = {"x": jnp.ones((8, 64)), "labels": jnp.zeros(8, int)}
        >>> found = cost(step, {"kernel": jax.ShapeDtypeStruct((64, 16), jnp.float32)}, batch)
        >>> found.trained, found.frozen_bytes, found.learned_bytes
        (160, 4096, 640)
    """
    params, batch = jax.eval_shape(lambda *trees: trees, params, dict(batch))
    frozen, state = jax.eval_shape(step.init, jax.eval_shape(jax.random.key, 0), params, batch)
    where = None if placement is None else _shardings(frozen, state, batch, placement)
    if where is None or placement is None:
        update = jax.jit(step.update, donate_argnums=1)
    else:
        everywhere = NamedSharding(placement.mesh, PartitionSpec())
        update = jax.jit(step.update, donate_argnums=1, in_shardings=where, out_shardings=(where[1], everywhere))
    with _kept_out_of_the_cache():
        compiled = update.lower(frozen, state, batch).compile()
    memory = compiled.memory_analysis()
    if memory is None:
        raise InputError("the compiler of these devices does not say what memory a program takes")
    analysis: dict[str, float] = compiled.cost_analysis() or {}
    held = None if where is None else where[1]
    learned = {name: getattr(state, name) for name in ("delta", "weights", "memory", "stats")}
    return Cost(
        trained=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves((state.delta, state.weights))),
        flops=float(analysis.get("flops", math.nan)),
        frozen_bytes=_bytes(frozen, None if where is None else where[0]),
        learned_bytes=_bytes(learned, None if held is None else {name: getattr(held, name) for name in learned}),
        optimizer_bytes=_bytes(state.opt_state, None if held is None else held.opt_state),
        argument_bytes=int(memory.argument_size_in_bytes),
        temporary_bytes=int(memory.temp_size_in_bytes),
        total_bytes=int(
            memory.argument_size_in_bytes
            + memory.temp_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
        ),
    )


@contextmanager
def _kept_out_of_the_cache() -> Iterator[None]:
    """Keeps the persistent cache as it is: a program for devices that are not there cannot be read back from it."""
    name = "jax_persistent_cache_min_compile_time_secs"
    former = getattr(jax.config, name)
    jax.config.update(name, 1e9)
    try:
        yield
    finally:
        jax.config.update(name, former)


def _shardings(frozen: PyTree, state: Any, batch: Batch, placement: Placement) -> tuple[PyTree, Any, PyTree]:
    placed = shardings({"frozen": frozen, "state": state}, placement)
    return placed["frozen"], placed["state"], batch_shardings(batch, placement)


def _bytes(tree: PyTree, where: PyTree) -> int:
    """Of a tree of shapes on one device."""
    leaves = jax.tree.leaves(tree)
    places = [None] * len(leaves) if where is None else jax.tree.leaves(where)
    shapes = [
        leaf.shape if place is None else place.shard_shape(leaf.shape)
        for leaf, place in zip(leaves, places, strict=True)
    ]
    return sum(math.prod(shape) * leaf.dtype.itemsize for shape, leaf in zip(shapes, leaves, strict=True))
