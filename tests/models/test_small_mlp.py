"""Small dense nets, for rows of one size and of two."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft


def test_a_small_mlp_is_its_layers() -> None:
    model = ft.small_mlp(4, num_labels=3, hidden=(7, 5), seed=1)
    x = jax.random.normal(jax.random.key(0), (6, 4))
    outputs = model.apply(model.params, {"features": x})
    hidden = np.asarray(x)
    for name in ("hidden_0", "hidden_1"):
        hidden = np.maximum(hidden @ model.params[name]["kernel"] + model.params[name]["bias"], 0)
    np.testing.assert_allclose(outputs.features, hidden, rtol=1e-5)
    np.testing.assert_allclose(outputs.logits, hidden @ model.params["head"]["kernel"], rtol=1e-4, atol=1e-6)
    assert ft.fingerprint(model.params) != ft.fingerprint(ft.small_mlp(4, num_labels=3, hidden=(7, 5)).params)


def test_encoders_are_told_apart_by_size_or_by_name() -> None:
    model = ft.two_encoders(6, 4, num_labels=3)
    source, target = jnp.ones((2, 6)), jnp.ones((2, 4))
    for named, plain in ((("source_features", source), source), (("target_features", target), target)):
        by_name = model.apply(model.params, {named[0]: named[1]})
        by_size = model.apply(model.params, {"features": plain})
        np.testing.assert_array_equal(by_name.logits, by_size.logits)
    same = ft.two_encoders(4, 4, num_labels=3)
    first, second = (
        same.apply(same.params, {name: target}).features for name in ("source_features", "target_features")
    )
    assert np.any(first != second)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ft.small_mlp(0, num_labels=3), "inputs is a whole number from 1 up"),
        (lambda: ft.small_mlp(4, num_labels=3, hidden=()), "one hidden layer or more"),
        (lambda: ft.two_encoders(4, 4, num_labels=3, shared=True), r"hidden\[1\] is a whole number"),
        (lambda: run(ft.small_mlp(4, num_labels=3), {"features": jnp.ones((2, 5))}), r"\[batch, 4\], but .*\[2, 5\]"),
        (lambda: run(ft.small_mlp(4, num_labels=3), {"x": jnp.ones((2, 4))}), "has only x"),
        (lambda: run(ft.two_encoders(4, 4, num_labels=3), {"features": jnp.ones((2, 4))}), "where they differ"),
        (lambda: run(ft.two_encoders(6, 4, num_labels=3), {"features": jnp.ones((2, 5))}), r"features \[2, 5\]"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ft.InputError, match=message):
        call()


def run(model: ft.Model, batch: Any) -> Any:
    return model.apply(model.params, batch)
