"""What an adaptation draws for each seed is never taken from another one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jaxft as ft
from jaxft.study.drawn import drawn_leaves, known_for_every_seed
from jaxft.study.prefix import known_leaves

PARAMS = {"first": jnp.ones((4, 4)), "second": jnp.ones((4, 4)), "head": jnp.ones((4, 2))}


@pytest.mark.parametrize(
    ("adaptation", "drawn"),
    [
        (ft.tune("head"), 0),
        (ft.lora("first", rank=1), 0),
        (ft.pissa("first", rank=1), 0),
        (ft.lora_fa("first", rank=1), 1),
        (ft.chain(ft.tune("head"), ft.vera(["first", "second"], rank=2)), 2),
    ],
)
def test_which_frozen_arrays_are_drawn(adaptation: ft.Adaptation, drawn: int) -> None:
    assert sum(drawn_leaves(adaptation, PARAMS)) == drawn


def test_a_drawn_matrix_is_not_known_and_all_else_frozen_is() -> None:
    adaptation = ft.chain(ft.tune("head"), ft.lora_fa("second", rank=1))
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    structure = jax.tree.structure(adaptation.bind(frozen, delta))
    of_one = jax.tree.unflatten(structure, known_leaves(adaptation, frozen, delta, None))
    of_all = jax.tree.unflatten(structure, known_for_every_seed(adaptation, PARAMS, frozen, delta, None))
    assert (of_one["second"].a, of_all["second"].a) == (True, False)
    assert (of_all["first"], of_all["second"].base, of_all["second"].b, of_all["head"]) == (True, True, False, False)
