"""``jaxft cost``: what methods would cost on a device, from their compiled programs, before anything runs."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxft.cli.method import Quantised, adaptation, default_target, entry, settings, what
from jaxft.cli.methods import METHODS, Name
from jaxft.cli.options import located
from jaxft.cli.tasks import TASKS
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.train import Cost, Placement
    from jaxft.types import Model

logger = logging.getLogger("jaxft")

_HEADER = ("method", "trained", "GFLOP", "base", "optimizer", "arguments", "temporary", "total", "fits")
_BYTES = ("frozen_bytes", "optimizer_bytes", "argument_bytes", "temporary_bytes", "total_bytes")


def cost(
    model: str,
    method: tuple[Name, ...] = (),
    task: Literal["classify", "regress", "tag", "spans", "lm", "chat", "images"] = "classify",
    num_labels: int = 2,
    batch_size: int = 32,
    max_length: int = 128,
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the model's)")] = None,
    rank: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the method's)")] = None,
    quantise: Annotated[
        Quantised | None, tyro.conf.arg(metavar="{int8,nf4}", help_behavior_hint="(default: as it is)")
    ] = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: bool = False,
    topology: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(default: this machine)")] = None,
    fsdp: int = 1,
    memory: Annotated[
        float | None, tyro.conf.arg(metavar="GIB", help_behavior_hint="(default: a TPU's; half of this machine's)")
    ] = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Say what a training step would cost with each method, without running any.

    Every method's step is compiled for this machine, or for a TPU slice that need not be there, and the compiler's
    figures are shown: for each device, its floating-point operations, the bytes of the base, of what learns, of the
    optimizer, of all arguments and of temporary arrays, and whether that fits. Weights are not read.

    Args:
        model: Asset, directory, GGUF file or hub id.
        method: One method or several, as of `jaxft finetune`; all that fit the model by default.
        task: What would be learned.
        num_labels: Labels of classify, tag and images.
        batch_size: Rows of a step, over all devices.
        max_length: Tokens of a row.
        image_size: Pixels a side, of models that take any.
        rank: Of the methods that have one.
        quantise: Keep the kernels of the base in eight or four bits, for methods that leave them as they are.
        dtype: Type of computation.
        remat: Recompute each layer in the backward pass in place of storing it.
        topology: A TPU slice such as v5e:4x4, v6e:2x2 or v4:2x2x2.
        fsdp: Devices that the base, what learns and the optimizer are split over; the batch is split over all.
        memory: GiB of a device.
        as_json: Print an object with a list of methods.
    """
    for name, value in (("batch-size", batch_size), ("max-length", max_length), ("num-labels", num_labels)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    configuration = {
        "task": task,
        "model": located(model),
        "batch_size": batch_size,
        "max_length": max_length,
        "image_size": image_size,
        "dtype": dtype,
        "remat": remat,
        "labels": num_labels,
    }
    place, limit = _place(topology, fsdp)
    limit = limit if memory is None else int(memory * 2**30)
    base = _shapes(configuration)
    rows: dict[str, tuple[str, Cost]] = {}
    failed: dict[str, str] = {}
    for name in method or METHODS:
        try:
            setting = _settings(name, base, rank=rank, quantise=quantise, named=bool(method), head=TASKS[task].head)
            rows[name] = (what(name, setting), _cost(name, setting, base, configuration, place))
        except InputError as error:
            failed[name] = str(error)
    if not rows:
        raise InputError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    if as_json:
        print(json.dumps(_object(rows, failed, limit, topology)))
        return
    _print(rows, limit, f"for each device of {topology}" if topology else "on this machine")
    for name, reason in failed.items():
        logger.warning("%s is left out: %s", name, reason)


def _place(topology: str | None, fsdp: int) -> tuple[Placement | None, int | None]:
    """Where the step would run, and the bytes of a device there."""
    from jaxft.study.memory import device_bytes
    from jaxft.train import fully_sharded, tpu_topology

    if topology is None:
        if fsdp != 1:
            raise InputError(f"--fsdp splits arrays over the devices of --topology, which is not given; got {fsdp}")
        return None, device_bytes()
    found = tpu_topology(topology)
    count = len(found.devices)
    if fsdp < 1 or count % fsdp:
        raise InputError(f"--fsdp must divide the {count} devices of {topology}, got {fsdp}")
    return fully_sharded(data=count // fsdp, devices=found.devices), found.bytes


def _shapes(configuration: Mapping[str, Any]) -> Model:
    """The model, with shapes in place of its weights."""
    from jaxft.models import describe_model

    task = TASKS[configuration["task"]]
    labels = configuration["labels"] if task.model_task in ("classify", "tag") else None
    return describe_model(
        configuration["model"],
        task=task.model_task,
        num_labels=1 if task.model_task == "regress" else labels,
        dtype=configuration["dtype"],
        remat=configuration["remat"],
    )


def _settings(
    name: str, base: Model, *, rank: int | None, quantise: str | None, named: bool, head: bool
) -> dict[str, Any]:
    """The settings of a method; one that was named refuses what means nothing to it, the others go without."""
    known, given = entry(name), {"rank": rank, "quantise": quantise}
    if not named:
        given = {"rank": rank if "rank" in known.settings else None, "quantise": quantise if known.keeps_base else None}
    setting = settings(name, given, head=head)
    if "target" in setting:
        setting["target"] = default_target(base.params)
    return setting


def _cost(
    name: str, setting: Mapping[str, Any], base: Model, configuration: Mapping[str, Any], place: Placement | None
) -> Cost:
    from jaxft.cli.tasks.images import image_size
    from jaxft.train import adamw, make_step, warmup_linear
    from jaxft.train import cost as cost_of

    task = TASKS[configuration["task"]]
    told = dict(configuration)
    if task.reads == "images":
        told["image_size"] = image_size(base, told["image_size"])
    example = task.example(base, told, configuration["batch_size"])
    step = make_step(
        base.apply, adaptation(name, setting, base.params), task.objective(), adamw(warmup_linear(1e-3, 100))
    )
    return cost_of(step, base.params, example, placement=place)


def _print(rows: Mapping[str, tuple[str, Cost]], limit: int | None, where: str) -> None:
    from jaxft.cli.tables import print_table

    lines = [
        (
            title,
            f"{found.trained:,}",
            "–" if math.isnan(found.flops) else f"{found.flops / 1e9:,.1f}",
            *(f"{getattr(found, name) / 2**20:,.1f}" for name in _BYTES),
            "–" if limit is None else "yes" if found.total_bytes <= limit else "no",
        )
        for title, found in rows.values()
    ]
    room = "" if limit is None else f", of which {limit / 2**30:,.1f} GiB are counted on"
    print_table(_HEADER, lines, caption=f"a step, in MiB {where}{room}")


def _object(
    rows: Mapping[str, tuple[str, Cost]], failed: Mapping[str, str], limit: int | None, topology: str | None
) -> dict[str, Any]:
    methods = [
        {
            "method": name,
            **found._asdict(),
            "flops": None if math.isnan(found.flops) else found.flops,
            "fits": None if limit is None else found.total_bytes <= limit,
        }
        for name, (_, found) in rows.items()
    ]
    return {"topology": topology, "device_bytes": limit, "methods": methods, "left_out": dict(failed)}
