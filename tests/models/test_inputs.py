"""Batches that a model cannot read are refused before anything is computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from tests.models.golden import GOLDEN

IDS = np.array([[3, 4, 5]])
WRONG = {
    "floats": ({"input_ids": IDS.astype(np.float32)}, "input_ids as whole numbers"),
    "mask": (
        {"input_ids": IDS, "attention_mask": np.ones((1, 4), int)},
        r"attention_mask of the shape .* got \[1, 4\]",
    ),
    "kinds": ({"input_ids": IDS, "token_type_ids": np.zeros((2, 3), int)}, "token_type_ids of the shape of input_ids"),
}
VALUES = {
    "token": ({"input_ids": IDS + 10**6}, "input_ids holds 1000005, but the model embeds 0 to 96"),
    "negative": ({"input_ids": IDS - 4}, "input_ids holds -1"),
    "kind": ({"input_ids": IDS, "token_type_ids": IDS}, "token_type_ids holds 5, but the model embeds 0 to 1"),
}


def model() -> ft.Model:
    return ft.load_model(GOLDEN / "bert_gelu", task="features")


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_shapes_and_types_are_checked_everywhere(name, compiled):
    batch, message = WRONG[name]
    found = model()
    apply = jax.jit(found.apply) if compiled else found.apply
    with pytest.raises(ft.InputError, match=message):
        apply(found.params, jax.tree.map(jnp.asarray, batch))


@pytest.mark.parametrize("name", VALUES)
def test_values_are_checked_where_they_are_known(name):
    batch, message = VALUES[name]
    found = model()
    with pytest.raises(ft.InputError, match=message):
        found.apply(found.params, batch)
    hidden = {key: np.concatenate([IDS, value], axis=1) for key, value in batch.items()}
    hidden |= {"token_type_ids": np.zeros((1, 6), int)} if "token_type_ids" not in batch else {}
    mask = {"attention_mask": np.array([[1, 1, 1, 0, 0, 0]])}
    if name != "kind":
        found.apply(found.params, hidden | mask)
