"""Biases alone, norms alone, and models that have none."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxft as ft

PARAMS: dict[str, Any] = {
    "layer": {
        "query": {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)},
        "norm": {"scale": jnp.ones(3), "bias": jnp.ones(3)},
    },
    "head": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)},
}
BARE = {"query": {"kernel": jnp.ones((3, 3))}, "norm": {"scale": jnp.ones(3)}}


def learned(adaptation: ft.Adaptation, params: Any = PARAMS) -> set[str]:
    return set(ft.leaf_paths(adaptation.init(jax.random.key(0), params)[1]))


def test_bitfit_trains_all_biases() -> None:
    assert learned(ft.bitfit()) == {"layer/query/bias", "layer/norm/bias", "head/bias"}
    assert learned(ft.bitfit("layer/**")) == {"layer/query/bias", "layer/norm/bias"}


def test_bitfit_with_a_head() -> None:
    both = ft.chain(ft.bitfit(~ft.glob("head/**")), ft.tune("head/**"))
    assert learned(both) == {"0/layer/query/bias", "0/layer/norm/bias", "1/head/kernel", "1/head/bias"}


def test_norms_trains_scales_and_the_biases_beside_them() -> None:
    assert learned(ft.norms()) == {"layer/norm/scale", "layer/norm/bias"}
    assert learned(ft.norms(), BARE) == {"norm/scale"}
    assert learned(ft.norms(), {"scale": jnp.ones(2), "bias": jnp.ones(2)}) == {"scale", "bias"}


def test_a_model_without_biases_is_told_so() -> None:
    with pytest.raises(ft.InputError, match=r"the model has none .*jaxft\.norms"):
        ft.bitfit().init(jax.random.key(0), BARE)


def test_a_part_without_them_is_named() -> None:
    with pytest.raises(ft.InputError, match=r"what 'head/\*\*' selects has none"):
        ft.norms("head/**").init(jax.random.key(0), PARAMS)
