"""A narrowed adaptation inside and around a chain, and what it refuses."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft

PARAMS = {"query": {"kernel": jnp.ones((6, 4))}, "head": {"kernel": jnp.ones((4, 2))}}
KEY = jax.random.key(0)


def test_one_factor_alone_may_learn() -> None:
    adaptation = ft.narrow(ft.lora("query/kernel", rank=2), "**/b")
    frozen, delta = adaptation.init(KEY, PARAMS)
    assert list(ft.leaf_paths(delta)) == ["query/kernel/b"]
    whole = ft.lora("query/kernel", rank=2).init(KEY, PARAMS)[1]
    np.testing.assert_array_equal(ft.release(frozen, delta)[1]["query"]["kernel"]["a"], whole["query"]["kernel"]["a"])


def test_a_narrowed_link_leaves_the_rest_of_a_chain_alone() -> None:
    link = ft.narrow(ft.lora("query/kernel", rank=2), "**/b")
    adaptation = ft.chain(link, ft.tune("head/**"))
    frozen, delta = adaptation.init(KEY, PARAMS)
    assert list(ft.leaf_paths(delta)) == ["0/query/kernel/b", "1/head/kernel"]
    chex.assert_trees_all_equal(ft.merge(adaptation, frozen, delta), PARAMS)


def test_nothing_is_held_when_everything_learns() -> None:
    adaptation = ft.chain(ft.lora("query/kernel", rank=2), ft.tune("head/**"))
    chex.assert_trees_all_equal(ft.narrow(adaptation, "**").init(KEY, PARAMS), adaptation.init(KEY, PARAMS))
    chex.assert_trees_all_equal(ft.release(*adaptation.init(KEY, PARAMS)), adaptation.init(KEY, PARAMS))


def test_a_selector_of_what_does_not_learn_is_refused() -> None:
    with pytest.raises(ft.InputError, match=r"'query/kernel' matches none of the 1 leaves; nearest: head/kernel"):
        ft.narrow(ft.tune("head/**"), "query/kernel").init(KEY, PARAMS)
