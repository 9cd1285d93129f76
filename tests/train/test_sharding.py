"""Placement on a mesh; eight virtual devices are a process of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxft as ft
from jaxft.train import Placement, data_parallel, fully_sharded, make_mesh, shard, shard_batch
from tests.train.processes import SCRIPT, run

LAYOUTS = ("one", "data", "fsdp", "both", "rules")
SHARDED = SCRIPT.with_name("sharded_run.py")


def test_eight_devices_follow_the_loss_curve_of_one():
    code, output, errors = run(script=SHARDED, devices=8)
    assert code == 0, errors
    curves = {line.split()[0]: np.array(line.split()[1:], float) for line in output.splitlines()}
    assert set(curves) == {f"{prefix}{name}" for prefix in ("", "lora-") for name in LAYOUTS}
    for prefix in ("", "lora-"):
        one = curves[f"{prefix}one"]
        assert one[0] - one[-1] > 0.1
        for name in LAYOUTS:
            np.testing.assert_allclose(curves[prefix + name], one, rtol=0, atol=1e-5, err_msg=prefix + name)


def test_one_device_is_a_mesh_too():
    for placement in (data_parallel(), fully_sharded()):
        tree = shard({"kernel": jnp.ones((3, 5)), "key": jax.random.key(0)}, placement)
        np.testing.assert_array_equal(tree["kernel"], 1.0)
        assert jax.random.bits(tree["key"]) == jax.random.bits(jax.random.key(0))
        batch = shard_batch({"source": {"x": np.ones((3, 2))}, "rate": np.float32(0.5)}, placement)
        assert batch["source"]["x"].shape == (3, 2)
        assert float(batch["rate"]) == 0.5


def test_a_rule_that_matches_nothing_is_refused():
    placement = Placement(make_mesh(), [("**/kernal", PartitionSpec("fsdp"))])
    with pytest.raises(ft.InputError, match=r"'\*\*/kernal' matches none.*nearest: head/kernel"):
        shard({"head": {"kernel": jnp.ones((4, 2))}}, placement)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (PartitionSpec("model"), "the mesh has no axis 'model', only 'data', 'fsdp'"),
        (PartitionSpec(None, None, "fsdp"), r"'head/kernel' of shape \(4, 2\): it names 3 dimensions"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(spec, said):
    with pytest.raises(ft.InputError, match=said):
        shard({"head": {"kernel": jnp.ones((4, 2))}}, Placement(make_mesh(), [("head/*", spec)]))


def test_a_mesh_of_the_wrong_size_is_refused():
    with pytest.raises(ft.InputError, match="data=3 times fsdp=1 does not use the 1 devices"):
        make_mesh(3, devices=jax.devices()[:1])
    with pytest.raises(ft.InputError, match="does not use"):
        fully_sharded(data=2, devices=jax.devices()[:1])
