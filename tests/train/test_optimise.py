"""AdamW, what it leaves undecayed, and its schedule."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.train import adamw, warmup_linear
from jaxft.trees import leaf_paths

TREE = {
    "delta": {
        "attention": {"query": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "norm": {"scale": jnp.ones(2)}},
        "LayerNorm_0": {"gamma": jnp.ones(2)},
        "lora": {"a": jnp.ones((2, 1)), "b": jnp.ones((1, 2))},
    },
    "weights": {"critic": {"kernel": jnp.ones((2, 1)), "bias": jnp.ones(1)}},
}
DECAYED = {
    "delta/attention/query/kernel",
    "delta/lora/a",
    "delta/lora/b",
    "weights/critic/kernel",
}


def one_update(optimizer, gradient, tree, count=1):
    state = optimizer.init(tree)
    for _ in range(count):
        changes, state = optimizer.update(gradient, state, tree)
    return leaf_paths(changes)


def test_biases_and_norms_do_not_decay():

    gradient = jax.tree.map(jnp.zeros_like, TREE)
    changes = one_update(adamw(0.1, weight_decay=0.5), gradient, TREE)
    for path, change in changes.items():
        np.testing.assert_allclose(change, -0.05 if path in DECAYED else 0.0, err_msg=path)


def test_the_first_update_by_hand():
    tree = {"delta": {"kernel": jnp.array([3.0, -4.0])}, "weights": ()}
    gradient = {"delta": {"kernel": jnp.array([30.0, -40.0])}, "weights": ()}
    change = one_update(adamw(0.1, weight_decay=0.01, eps=1.0), gradient, tree)["delta/kernel"]
    clipped = np.array([0.6, -0.8])
    np.testing.assert_allclose(
        change, -0.1 * (clipped / (abs(clipped) + 1.0) + 0.01 * np.array([3.0, -4.0])), rtol=1e-5
    )


def test_without_clipping_it_is_optax():
    tree = {"kernel": jnp.array([3.0, -4.0])}
    gradient = {"kernel": jnp.array([30.0, -40.0])}
    expected = one_update(optax.adamw(0.1, weight_decay=0.01, eps=1.0), gradient, tree)
    found = one_update(adamw(0.1, clip=None, eps=1.0), gradient, tree)
    np.testing.assert_array_equal(found["kernel"], expected["kernel"])


def test_accumulation_updates_every_so_many_steps():
    optimizer = adamw(0.1, accumulate=3, weight_decay=0.0)
    tree, gradient = {"kernel": jnp.ones(2)}, {"kernel": jnp.ones(2)}
    assert not one_update(optimizer, gradient, tree, 2)["kernel"].any()
    assert one_update(optimizer, gradient, tree, 3)["kernel"].all()


@pytest.mark.parametrize(("warmup", "peak_at"), [(0.1, 20), (0.0, 0), (1.0, 200)])
def test_the_schedule_peaks_once_and_ends_at_zero(warmup, peak_at):
    values = np.array([float(warmup_linear(3e-4, 200, warmup=warmup)(step)) for step in range(201)])
    assert values.argmax() == peak_at
    assert values.max() == pytest.approx(3e-4)
    expected = np.concatenate([np.linspace(0, 3e-4, peak_at + 1)[:-1], np.linspace(3e-4, 0, 201 - peak_at)])
    np.testing.assert_allclose(
        values[: 201 if peak_at < 200 else 200], expected[: 201 if peak_at < 200 else 200], atol=1e-9
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: adamw(1e-3, accumulate=0), "accumulate is 0"),
        (lambda: adamw(1e-3, clip=0.0), "clip is the largest norm"),
        (lambda: warmup_linear(1e-3, 0), "at least one step"),
        (lambda: warmup_linear(1e-3, 10, warmup=10), "between 0 and 1, but is 10"),
    ],
)
def test_wrong_numbers_are_refused(make, said):
    with pytest.raises(ft.InputError, match=said):
        make()
