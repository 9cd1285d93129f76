"""IA3: outputs with their bias, or inputs, times a learned vector."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.weights import lift

X = jnp.array([[1.0, 2.0]])
PARAMS = {
    "key": {"kernel": jnp.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]), "bias": jnp.array([1.0, 1.0, 0.0])},
    "down": {"kernel": jnp.eye(2), "bias": jnp.array([0.0, 5.0])},
}


def dense(params: Any, x: Any) -> Any:
    return x @ params["kernel"] + params["bias"]


def test_outputs_are_scaled_with_their_bias_and_inputs_without() -> None:
    adaptation = ft.ia3("key/kernel", inputs="down/kernel")
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    assert jax.tree.map(jnp.shape, delta) == {
        "down": {"bias": None, "kernel": {"l": (2, 1)}},
        "key": {"bias": None, "kernel": {"l": (1, 3)}},
    }
    delta["key"]["kernel"]["l"] = jnp.array([[2.0, 3.0, 4.0]])
    delta["down"]["kernel"]["l"] = jnp.array([[10.0], [100.0]])
    params = adaptation.bind(frozen, delta)
    np.testing.assert_allclose(lift(dense)(params["key"], X), [[4.0, 9.0, 12.0]])
    np.testing.assert_allclose(lift(dense)(params["down"], X), [[10.0, 205.0]])


@pytest.mark.parametrize(
    ("shape", "axes", "outputs", "inputs"),
    [
        ((6, 4), None, (1, 4), (6, 1)),
        ((3, 3, 2, 5), None, (1, 1, 1, 5), (1, 1, 2, 1)),
        ((6, 3, 4), "ioo", (1, 3, 4), (6, 1, 1)),
        ((3, 4, 6), "iio", (1, 1, 6), (3, 4, 1)),
        ((7, 6, 4), {"**": "bio"}, (7, 1, 4), (7, 6, 1)),
    ],
)
def test_shapes(shape: tuple[int, ...], axes: Any, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> None:
    params = {"up": jnp.ones(shape), "down": jnp.ones(shape)}
    _, delta = ft.ia3("up", inputs="down", axes=axes).init(jax.random.key(0), params)
    assert (delta["up"]["l"].shape, delta["down"]["l"].shape) == (outputs, inputs)


def test_stacked_biases_are_scaled_by_their_own_vectors() -> None:
    params = {"kernel": jnp.ones((2, 3, 4)), "bias": jnp.ones((2, 4))}
    adaptation = ft.ia3("kernel", axes="bio")
    bound = adaptation.bind(params, {"kernel": {"l": jnp.arange(8.0).reshape(2, 1, 4)}, "bias": None})
    np.testing.assert_array_equal(bound["bias"], jnp.arange(8.0).reshape(2, 4))


@pytest.mark.parametrize(("outputs", "inputs"), [("key/kernel", None), ("down/kernel", "key/kernel")])
def test_biases_trained_by_a_later_link_are_scaled_too(outputs: str, inputs: str | None) -> None:
    adaptation = ft.chain(ft.ia3(outputs, inputs=inputs), ft.bitfit())
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    scales = jax.tree.map(lambda leaf: 2 * leaf, delta[0])
    merged = ft.merge(adaptation, frozen, (scales, delta[1]))
    scaled = outputs.partition("/")[0]
    for name, part in PARAMS.items():
        np.testing.assert_array_equal(merged[name]["bias"], part["bias"] * (2 if name == scaled else 1))


def test_a_bias_that_an_earlier_link_trains_is_refused() -> None:
    with pytest.raises(ft.InputError, match=r"'key/bias', which an earlier link .* put ia3 before"):
        ft.chain(ft.bitfit(), ft.ia3("key/kernel")).init(jax.random.key(0), PARAMS)


def test_a_kernel_on_both_sides_is_refused() -> None:
    with pytest.raises(ft.InputError, match="both select 'key/kernel'"):
        ft.ia3("*/kernel", inputs="key/kernel").init(jax.random.key(0), PARAMS)


def test_what_is_no_bias_of_the_kernel_is_refused() -> None:
    with pytest.raises(ft.InputError, match=r"outputs \[4\], but 'b' has shape \[3\]"):
        ft.ia3("w").init(jax.random.key(0), {"w": jnp.ones((2, 4)), "b": jnp.ones(3)})


@pytest.mark.parametrize("selector", ["key/bias", "**"])
def test_vectors_are_refused(selector: str) -> None:
    with pytest.raises(ft.InputError, match="ia3 expects matrices"):
        ft.ia3(selector).init(jax.random.key(0), PARAMS)
