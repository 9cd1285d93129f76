"""Trains the linear step on one device and on eight in several layouts, and prints each loss curve."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxft as ft
from jaxft.errors import InputError
from jaxft.train import (
    Placement,
    adamw,
    data_parallel,
    fit,
    fully_sharded,
    make_mesh,
    predict,
    shard,
    shard_batch,
    shardings,
)
from jaxft.trees import leaf_paths
from jaxft.types import Step
from tests.train.linear import LinearBatches, linear_apply, linear_params, linear_step


def check_layouts() -> None:
    tree = {"wide": np.zeros((6, 16)), "tall": np.zeros((24, 8)), "odd": np.zeros((5, 7)), "scalar": np.zeros(())}
    both = {path: s.spec for path, s in leaf_paths(shardings(tree, fully_sharded(data=2))).items()}
    assert both == {
        "wide": PartitionSpec(None, "fsdp"),
        "tall": PartitionSpec("fsdp"),
        "odd": PartitionSpec(),
        "scalar": PartitionSpec(),
    }
    placed = shard(tree, fully_sharded())
    assert placed["tall"].addressable_shards[0].data.shape == (3, 8)
    assert placed["odd"].addressable_shards[0].data.shape == (5, 7)
    with pytest.raises(InputError, match=r"'wide' of shape \(6, 16\): 6 cannot be split into 8 equal parts"):
        shard(tree, Placement(make_mesh(1, 8), [("wide", PartitionSpec("fsdp"))]))


def low_rank_step() -> Step:
    adaptation = ft.chain(ft.lora("base", rank=2, dropout=0.1), ft.tune("head/**"))
    return ft.make_step(linear_apply, adaptation, ft.cross_entropy(), adamw(2e-2))


def losses(step: Step, placement: Placement | None) -> list[float]:
    params = linear_params(width=16)
    frozen, state = step.init(jax.random.key(7), params, LinearBatches(rows=24)[0])
    traces = []

    def counted(*given):
        traces.append(1)
        return step.update(*given)

    result = fit(
        step._replace(update=counted),
        frozen,
        state,
        LinearBatches(rows=24),
        steps=40,
        placement=placement,
        log_every=1,
        progress=False,
    )
    assert len(traces) == 1
    if placement is not None:
        assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(result.state))
    if placement is not None and "head" in result.state.delta:
        learned = {"base": params["base"], "head": result.state.delta["head"]}
        learned = shard(learned, placement._replace(rules=()))
        batch = LinearBatches(rows=24)[0]
        together = predict(linear_apply, learned, [batch], placement=placement)
        alone = predict(linear_apply, jax.device_get(learned), [batch])
        np.testing.assert_allclose(together, alone, atol=1e-6)
    return [line["loss"] for line in result.history]


def main() -> None:
    assert len(jax.devices()) == 8
    check_layouts()
    rules = [("**/head/kernel", PartitionSpec("fsdp")), ("frozen/model/base", PartitionSpec(None, ("data", "fsdp")))]
    layouts = {
        "one": None,
        "data": data_parallel(),
        "fsdp": fully_sharded(),
        "both": fully_sharded(data=2),
        "rules": Placement(make_mesh(4, 2), rules),
    }
    for name, placement in layouts.items():
        print(name, *losses(linear_step(adamw(2e-2)), placement))
        rules = () if placement is None else [rule for rule in placement.rules if rule[0] == "**"]
        placement = None if placement is None else placement._replace(rules=rules)
        print(f"lora-{name}", *losses(low_rank_step(), placement))
    with pytest.raises(InputError, match="the 12 rows of 'labels' cannot be split over 8 devices"):
        shard_batch(LinearBatches(rows=12)[0], data_parallel())


if __name__ == "__main__":
    main()
