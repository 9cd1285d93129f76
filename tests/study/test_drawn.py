"""A matrix that an adaptation draws for each seed is never taken for one that every run has."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jaxft as ft
from jaxft.study import known_leaves

PARAMS = {"first": jnp.ones((4, 4)), "second": jnp.ones((4, 4)), "head": jnp.ones((4, 2))}


@pytest.mark.parametrize("method", [ft.lora_fa, ft.vera])
def test_activations_are_not_kept_behind_a_drawn_matrix(method):
    adaptation = ft.chain(ft.tune("head"), method("second", rank=1))
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    structure = jax.tree.structure(adaptation.bind(frozen, delta))
    known = jax.tree.unflatten(structure, known_leaves(adaptation, frozen, delta, None))
    assert (known["first"], known["second"].base, known["head"]) == (True, True, False)
    assert (known["second"].a, known["second"].b) == (False, False)
