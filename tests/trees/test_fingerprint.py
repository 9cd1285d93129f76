"""The fingerprint changes with every bit that matters and with nothing else."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxft as ft

TREE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.array([1, 2], np.int32)}}


def test_it_is_stable_across_releases() -> None:
    assert ft.fingerprint(TREE) == "77c1a0e8762f370579052dcf9f9ed2566f854b48c2e5274969044f3f0899b1a1"


@pytest.mark.parametrize(
    "same",
    [
        {"b": {"c": TREE["b"]["c"]}, "a": TREE["a"]},
        jax.tree.map(jnp.asarray, TREE),
        {"a": np.asfortranarray(TREE["a"]), "b": TREE["b"]},
        {"a": TREE["a"].astype(">f4"), "b": TREE["b"]},
    ],
)
def test_containers_and_layout_do_not_matter(same: Any) -> None:
    assert ft.fingerprint(same) == ft.fingerprint(TREE)


@pytest.mark.parametrize(
    "other",
    [
        {"a": TREE["a"], "b": {"d": TREE["b"]["c"]}},
        {"a": TREE["a"].reshape(3, 2), "b": TREE["b"]},
        {"a": TREE["a"].astype(np.float64), "b": TREE["b"]},
        {"a": np.nextafter(TREE["a"], np.float32(9)), "b": TREE["b"]},
        {"a": TREE["a"]},
    ],
)
def test_names_shapes_dtypes_and_bits_matter(other: Any) -> None:
    assert ft.fingerprint(other) != ft.fingerprint(TREE)


def test_every_kind_of_leaf() -> None:
    leaves = [
        np.ones(3, ml_dtypes.bfloat16),
        jax.random.key(0),
        jax.random.key(1),
        np.array(True),
        3.0,
        np.zeros((0, 4), np.float32),
    ]
    assert len({ft.fingerprint({"x": leaf}) for leaf in leaves}) == len(leaves)
