"""The small convolutional net."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft


def reference(params, x):
    """The same by loops over places, in float64."""
    x = np.asarray(x, np.float64)
    for name in ("convolution_0", "convolution_1"):
        kernel, bias = (np.asarray(params[name][part], np.float64) for part in ("kernel", "bias"))
        length, size = x.shape[1], 3
        count = -(-length // 2)
        before = max((count - 1) * 2 + size - length, 0) // 2
        padded = np.zeros((len(x), length + 2 * size, length + 2 * size, x.shape[-1]))
        padded[:, before : before + length, before : before + length] = x
        found = np.zeros((len(x), count, count, kernel.shape[1]))
        for row in range(count):
            for column in range(count):
                window = padded[:, 2 * row : 2 * row + size, 2 * column : 2 * column + size]
                found[:, row, column] = window.reshape(len(x), -1) @ kernel + bias
        x = np.maximum(found, 0)
    x = np.maximum(x.reshape(len(x), -1) @ np.asarray(params["hidden"]["kernel"], np.float64), 0)
    return x @ np.asarray(params["head"]["kernel"], np.float64)


@pytest.mark.parametrize("size", [7, 8])
def test_it_computes_convolutions(size):
    model = ft.small_convnet(size, num_labels=3, channels=(4, 5), hidden=6, inputs=2, seed=3)
    x = jax.random.normal(jax.random.key(0), (2, size, size, 2))
    np.testing.assert_allclose(model.apply(model.params, {"pixels": x}).logits, reference(model.params, x), atol=1e-4)


def test_training_normalises_by_the_batch_and_evaluation_by_what_runs():
    model = ft.small_convnet(8, num_labels=3, channels=(4,), norm=True)
    x = 3 + jax.random.normal(jax.random.key(0), (16, 8, 8, 1))
    trained = model.apply(model.params, {"pixels": x}, train=True)
    mean = trained.stats["convolution_0"]["norm"]["mean"]
    kernel, bias = (model.params["convolution_0"][part] for part in ("kernel", "bias"))
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    parts = [padded[:, i : i + 8 : 2, j : j + 8 : 2] for i in range(3) for j in range(3)]
    maps = np.concatenate(parts, -1) @ np.asarray(kernel) + np.asarray(bias)
    np.testing.assert_allclose(mean, 0.1 * maps.mean((0, 1, 2)), rtol=1e-4)
    assert model.apply(model.params, {"pixels": x}).stats is None
    other = model.apply(model.params, {"pixels": 2 * x}, train=True)
    np.testing.assert_allclose(other.logits, trained.logits, atol=1e-3)


@pytest.mark.slow
def test_any_adaptation_of_dense_weights_is_one_of_it():
    model = ft.small_convnet(8, num_labels=3)
    step = ft.make_step(model.apply, ft.lora("**/kernel", rank=2), ft.cross_entropy(), ft.adamw(1e-2))
    batch = {"pixels": jnp.ones((2, 8, 8, 1)), "labels": jnp.array([0, 1])}
    frozen, state = step.init(jax.random.key(0), model.params, batch)
    assert sorted(state.delta) == ["convolution_0", "convolution_1", "head", "hidden"]
    assert np.isfinite(step.update(frozen, state, batch)[1]["loss"])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ft.InputError, match=r"2 convolutions of stride two need pictures of 4, not 3"):
        ft.small_convnet(3, num_labels=2)
    with pytest.raises(ft.InputError, match=r"channels\[1\] of a small_convnet is a whole number from 1 up, but is 0"):
        ft.small_convnet(8, num_labels=2, channels=(4, 0))
    model = ft.small_convnet(8, num_labels=2)
    with pytest.raises(ft.InputError, match=r"reads pixels \[batch, 8, 8, 1\], but they are \[1, 9, 9, 1\]"):
        model.apply(model.params, {"pixels": jnp.ones((1, 9, 9, 1))})
