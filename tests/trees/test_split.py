"""Split and join are exact inverses on any nesting."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxft as ft
from jaxft.trees import leaf_paths, partition, replace


class Pair(NamedTuple):
    left: Any
    right: Any


LEAVES = st.integers(0, 10**6)
TREES = st.recursive(
    LEAVES | st.none(),
    lambda inner: (
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4)
        | st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=12,
)


@given(TREES, st.data())
def test_join_undoes_split(tree: Any, data: st.DataObject) -> None:
    leaves, structure = jax.tree.flatten(tree)
    flags = data.draw(st.lists(st.booleans(), min_size=len(leaves), max_size=len(leaves)))
    chosen, rest = partition(tree, jax.tree.unflatten(structure, flags))
    assert ft.join(chosen, rest) == tree
    assert ft.join(rest, chosen) == tree
    assert leaf_paths(chosen) | leaf_paths(rest) == leaf_paths(tree)
    assert not leaf_paths(chosen).keys() & leaf_paths(rest).keys()


@given(TREES)
def test_paths_are_in_the_order_of_the_leaves(tree: Any) -> None:
    assert list(leaf_paths(tree).values()) == jax.tree.leaves(tree)


def test_split_by_selector_keeps_the_arrays_themselves() -> None:
    params = {"encoder": [{"w": np.ones(2)}, {"w": np.zeros(2)}], "head": (np.ones(3),)}
    chosen, rest = ft.split(params, "encoder/1/**")
    assert chosen["encoder"][1]["w"] is params["encoder"][1]["w"]
    assert chosen["head"] == (None,)
    assert rest["encoder"][1]["w"] is None


def test_split_raises_when_nothing_matches() -> None:
    with pytest.raises(ft.InputError, match="nearest: head/w"):
        ft.split({"head": {"w": 1}}, "heads/w")


def test_join_refuses_two_leaves_at_one_path() -> None:
    with pytest.raises(ft.InputError, match="both trees have a leaf at 'a/b'"):
        ft.join({"a": {"b": 1}}, {"a": {"b": 2}})


def test_join_refuses_other_structures() -> None:
    with pytest.raises(ft.InputError, match="structures differ"):
        ft.join({"a": 1}, {"b": None})


def test_a_shared_path_is_refused() -> None:
    with pytest.raises(ft.InputError, match="share the path 'a/b'"):
        leaf_paths({"a/b": 1, "a": {"b": 2}})


def test_replace_names_unknown_paths() -> None:
    assert replace({"a": [1, 2]}, {"a/1": 5}) == {"a": [1, 5]}
    with pytest.raises(ft.InputError, match="no leaf at 'a/3'"):
        replace({"a": [1, 2]}, {"a/3": 5})
