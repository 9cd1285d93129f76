"""Where arrays live on many devices: a mesh, and rules from paths to partition specs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxft.errors import InputError
from jaxft.trees import glob, leaf_paths, map_with_path
from jaxft.types import Batch, PyTree

SpecRule = Callable[[tuple[int, ...], Mesh], PartitionSpec]
Rule = tuple[str, PartitionSpec | SpecRule]


class Placement(NamedTuple):
    """A mesh of devices and how arrays are laid out on it.

    Attributes:
        mesh: the devices, with the axes "data" and "fsdp"; batches are split over both.
        rules: pairs of a glob over paths and a ``PartitionSpec``, or a function of shape and mesh that gives one. The
            first rule that matches a path holds; a path without a rule is replicated.
    """

    mesh: Mesh
    rules: Sequence[Rule] = ()


def make_mesh(data: int | None = None, fsdp: int = 1, *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of ``data`` × ``fsdp`` devices with axes of these names.

    Args:
        data: replicas of the arrays; by default as many as the devices allow.
        fsdp: devices that one replica is split over.
        devices: by default all.

    Raises:
        InputError: the sizes do not multiply to the number of devices.

    Example:
        >>> dict(make_mesh(devices=jax.devices()[:1]).shape)
        {'data': 1, 'fsdp': 1}
    """
    chosen = list(jax.devices() if devices is None else devices)
    data = len(chosen) // max(fsdp, 1) if data is None else data
    if data < 1 or fsdp < 1 or data * fsdp != len(chosen):
        raise InputError(f"a mesh of data={data} times fsdp={fsdp} does not use the {len(chosen)} devices exactly")
    grid = np.array(chosen).reshape(data, fsdp)
    return Mesh(grid, ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))


def data_parallel(*, devices: Sequence[jax.Device] | None = None) -> Placement:
    """Every device holds all arrays and a part of the batch.

    Example:
        >>> data_parallel(devices=jax.devices()[:1]).rules
        ()
    """
    return Placement(make_mesh(devices=devices))


def fully_sharded(*, data: int = 1, devices: Sequence[jax.Device] | None = None) -> Placement:
    """Every array is split over devices along its largest dimension that divides, and so is the batch.

    Args:
        data: replicas of the split arrays: above 1 it is data parallel and fully sharded at once.
        devices: by default all; those of one replica are ``len(devices) / data``.

    Raises:
        InputError: ``data`` does not divide the number of devices.

    References:
        Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020.
    """
    chosen = list(jax.devices() if devices is None else devices)
    mesh = make_mesh(data, len(chosen) // max(data, 1), devices=chosen)
    return Placement(mesh, (("**", largest_dimension),))


def largest_dimension(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Splits the largest dimension that the axis "fsdp" divides; an array without one is replicated."""
    size = mesh.shape["fsdp"]
    divisible = [index for index, length in enumerate(shape) if length >= size and length % size == 0]
    if not divisible:
        return PartitionSpec()
    chosen = max(divisible, key=lambda index: shape[index])
    return PartitionSpec(*(None,) * chosen, "fsdp")


def shardings(tree: PyTree, placement: Placement) -> PyTree:
    """Returns the sharding of every leaf, by the first rule that matches its path.

    Raises:
        InputError: a rule matches no path, or its spec does not fit a leaf that it matches.
    """
    mesh = placement.mesh
    matches = [leaf_paths(glob(pattern)(tree)) for pattern, _ in placement.rules]

    def sharding(path: str, leaf: Any) -> NamedSharding:
        for matched, (pattern, rule) in zip(matches, placement.rules, strict=True):
            if matched[path]:
                spec = rule if isinstance(rule, PartitionSpec) else rule(leaf.shape, mesh)
                _check_fit(path, leaf.shape, pattern, spec, mesh)
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, PartitionSpec())

    return map_with_path(sharding, tree)


def _check_fit(path: str, shape: tuple[int, ...], pattern: str, spec: PartitionSpec, mesh: Mesh) -> None:
    said = f"the rule {pattern!r} with {spec} does not fit {path!r} of shape {shape}"
    if len(spec) > len(shape):
        raise InputError(f"{said}: it names {len(spec)} dimensions")
    for length, axes in zip(shape, spec, strict=False):
        names = () if axes is None else axes if isinstance(axes, tuple) else (axes,)
        for name in names:
            if name not in mesh.shape:
                raise InputError(f"{said}: the mesh has no axis {name!r}, only {', '.join(map(repr, mesh.shape))}")
        parts = math.prod(mesh.shape[name] for name in names)
        if length % parts:
            raise InputError(f"{said}: {length} cannot be split into {parts} equal parts")


def shard(tree: PyTree, placement: Placement) -> PyTree:
    """Puts every leaf where the rules say; values do not change.

    Args:
        tree: arrays, the same on every process.
        placement: the mesh and its rules.

    Raises:
        InputError: a rule matches no path, or its spec does not fit a leaf that it matches.

    Example:
        >>> tree = shard({"kernel": np.ones((4, 2))}, data_parallel(devices=jax.devices()[:1]))
        >>> tree["kernel"].shape
        (4, 2)
    """
    return jax.tree.map(_put, tree, shardings(tree, placement))


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def batch_shardings(batch: Batch, placement: Placement) -> PyTree:
    """Returns the sharding of every array of a batch, nested views too: the rows split over all devices.

    Args:
        batch: arrays ``[rows, …]`` or their shapes.
        placement: the mesh; the rules play no part.

    Raises:
        InputError: the rows cannot be split evenly.
    """
    mesh = placement.mesh
    parts = math.prod(mesh.shape.values())

    def sharding(path: str, leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        if shape and shape[0] % parts:
            raise InputError(
                f"the {shape[0]} rows of {path!r} cannot be split over {parts} devices: "
                f"choose a batch size that {parts} divides"
            )
        return NamedSharding(mesh, PartitionSpec(tuple(mesh.shape)) if shape else PartitionSpec())

    return map_with_path(sharding, batch)


def shard_batch(batch: Batch, placement: Placement) -> Batch:
    """Splits the rows of every array of a batch over all devices, as :func:`batch_shardings` says.

    Args:
        batch: arrays ``[rows, …]``, the whole batch on every process.
        placement: the mesh; the rules play no part.

    Raises:
        InputError: the rows cannot be split evenly.
    """

    def put(value: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(value)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, dict(batch), batch_shardings(batch, placement))
