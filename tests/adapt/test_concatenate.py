"""Low-rank adapters joined by their factors: the exact sum of their updates, where the mean of factors is not."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import pytest

import jaxft as ft

PARAMS = {
    "query": {"kernel": jnp.cos(jnp.arange(24.0)).reshape(6, 4), "bias": jnp.ones(4)},
    "stack": {"kernel": jnp.sin(jnp.arange(60.0)).reshape(2, 6, 5)},
    "thin": {"kernel": jnp.ones((6, 1))},
    "head": {"kernel": jnp.ones((4, 2)), "bias": jnp.zeros(2)},
}
AXES = {"stack/kernel": "bio", "**": "io"}


def adapter(seed: int, adaptation: ft.Adaptation) -> Any:
    frozen, delta = adaptation.init(jax.random.key(seed), PARAMS)
    leaves, structure = jax.tree.flatten(delta)
    keys = jax.random.split(jax.random.key(100 + seed), len(leaves))
    moved = [leaf + jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return adaptation, frozen, jax.tree.unflatten(structure, moved)


def several() -> list[Any]:
    """Adapters of other ranks, scales, weights and heads, with layers that are stacked."""
    wide = ft.lora("{query,stack,thin}/kernel", rank=2, alpha=3.0, axes=AXES)
    stabilised = ft.lora("query/kernel", rank=3, alpha=2.0, rank_stabilized=True)
    return [adapter(0, wide), adapter(1, ft.chain(stabilised, ft.tune("head/**"))), adapter(2, wide)]


@pytest.mark.parametrize("weights", [1 / 3, (0.5, -1.0, 2.0)])
def test_joined_factors_equal_dense_updates(weights: Any) -> None:
    adapters = several()
    dense = ft.task_arithmetic(PARAMS, [ft.merge(*one) for one in adapters], weights)
    adaptation, frozen, delta = ft.concatenate_rank(PARAMS, adapters, weights)
    chex.assert_trees_all_close(ft.merge(adaptation, frozen, delta), dense, atol=1e-5)
    assert delta[0]["query"]["kernel"]["a"].shape == (6, 2 + 3 + 2)
    assert delta[0]["stack"]["kernel"]["b"].shape == (2, 2 + 2, 5)
    assert jax.tree.map(jnp.shape, delta[1]["head"]) == {"kernel": (4, 2), "bias": (2,)}


def test_averaged_factors_are_another_update() -> None:
    first, second = several()[0], several()[2]
    adaptation, frozen, _ = first
    factors = ft.uniform_soup([first[2], second[2]])
    dense = ft.uniform_soup([ft.merge(*first), ft.merge(*second)])
    joined = ft.merge(*ft.concatenate_rank(PARAMS, [first, second], 0.5))
    chex.assert_trees_all_close(joined, dense, atol=1e-5)
    averaged = ft.merge(adaptation, frozen, factors)
    assert float(jnp.abs(averaged["query"]["kernel"] - dense["query"]["kernel"]).max()) > 0.1


def test_the_joined_adapter_trains_on() -> None:
    adaptation, frozen, delta = ft.concatenate_rank(PARAMS, several())

    def loss(delta: Any) -> jax.Array:
        bound = adaptation.bind(frozen, delta)
        return jnp.sum(jnp.sin(ft.lift(lambda w: jnp.ones(6) @ w)(bound["query"]["kernel"]))) + bound["head"]["bias"][0]

    gradient = jax.jit(jax.grad(loss))(delta)
    assert float(jnp.abs(gradient[0]["query"]["kernel"]["b"]).min()) > 0
    assert float(gradient[1]["head"]["bias"][0]) == 1.0


def test_what_cannot_be_joined_is_refused() -> None:
    low = adapter(0, ft.lora("query/kernel", rank=1))
    with pytest.raises(ft.InputError, match="low-rank in one adapter and trained whole in another"):
        ft.concatenate_rank(PARAMS, [low, adapter(1, ft.tune("query/kernel"))])
    with pytest.raises(ft.InputError, match="none of the 1 adapters has a low-rank weight"):
        ft.concatenate_rank(PARAMS, [adapter(1, ft.tune("head/**"))])
    with pytest.raises(ft.InputError, match="each of the 1 adapters is expected, but 2"):
        ft.concatenate_rank(PARAMS, [low], [1.0, 1.0])
    other = {**PARAMS, "query": {**PARAMS["query"], "kernel": PARAMS["query"]["kernel"] + 1}}
    with pytest.raises(ft.InputError, match=r"changes the base of 'query/kernel', or belongs to another base"):
        ft.concatenate_rank(other, [low])
    with pytest.raises(ft.InputError, match="'thin/kernel', which the params lack"):
        ft.concatenate_rank({name: leaf for name, leaf in PARAMS.items() if name != "thin"}, [low])
    swapped = [adapter(0, ft.lora("stack/kernel", rank=1, axes=axes)) for axes in ("bio", "ioo")]
    with pytest.raises(ft.InputError, match="axes of 'stack/kernel' as 'bio' and 'ioo'"):
        ft.concatenate_rank(PARAMS, swapped)


@pytest.mark.parametrize("trained", [False, True])
def test_what_was_added_cannot_be_summed(trained: bool) -> None:
    params = {**PARAMS, "embeddings": {"word": {"embedding": jnp.ones((5, 4))}}}
    adaptation = ft.chain(ft.lora("query/kernel", rank=1), ft.tune("head/**") if trained else ft.prompt(length=2))
    low = (adaptation, *adaptation.init(jax.random.key(0), params))
    said = r"'head/\w+', which the params lack: give" if trained else "adds 'embeddings/prompt'.* cannot be summed"
    lacking = {name: leaf for name, leaf in params.items() if name != "head" or not trained}
    with pytest.raises(ft.InputError, match=said):
        ft.concatenate_rank(lacking, [low])
