"""Chains of adaptations: what may lie together and what may not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxft as ft
from jaxft.weights import LowRank, is_structured

PARAMS: dict[str, Any] = {
    "query": {"kernel": jnp.ones((6, 4)), "bias": jnp.zeros(4)},
    "norm": {"scale": jnp.ones(4), "count": jnp.array(3)},
    "head": {"kernel": jnp.ones((4, 2))},
}


@pytest.mark.parametrize(
    "links",
    [
        (ft.tune("head/**"), ft.tune("**/kernel")),
        (ft.lora("query/kernel"), ft.full()),
        (ft.full(), ft.lora("query/kernel")),
        (ft.tune("query/**"), ft.lora("**/kernel")),
        (ft.lora("query/kernel", rank=2), ft.lora("**/kernel", rank=4)),
        (ft.chain(ft.tune("head/**"), ft.lora("query/kernel")), ft.freeze("norm/**")),
    ],
)
def test_overlaps_raise_and_name_the_leaf(links: tuple[ft.Adaptation, ...]) -> None:
    with pytest.raises(ft.InputError, match=r"adaptations 1 and 2 of the chain overlap at '.*/kernel'"):
        ft.chain(*links).init(jax.random.key(0), PARAMS)


def test_a_chain_of_chains() -> None:
    inner = ft.chain(ft.tune("head/**"), ft.lora("query/kernel", rank=2))
    adaptation = ft.chain(inner, ft.tune("norm/scale"))
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    assert {path for path, _ in ft.leaf_paths(frozen).items()} == {"query/kernel", "query/bias", "norm/count"}
    assert set(ft.leaf_paths(delta)) == {
        "0/0/head/kernel",
        "0/1/query/kernel/a",
        "0/1/query/kernel/b",
        "1/norm/scale",
    }
    assert ft.summary(adaptation, PARAMS).trained == 8 + 2 * 10 + 4


def test_an_empty_chain_raises() -> None:
    with pytest.raises(ft.InputError, match="at least one"):
        ft.chain()


def test_integers_are_never_trained() -> None:
    _, delta = ft.full().init(jax.random.key(0), PARAMS)
    assert "norm/count" not in ft.leaf_paths(delta)
    with pytest.raises(ft.InputError, match="no floating-point leaf"):
        ft.tune("norm/count").init(jax.random.key(0), PARAMS)


def test_freezing_everything_raises() -> None:
    with pytest.raises(ft.InputError, match="no floating-point leaf to train"):
        ft.freeze("**").init(jax.random.key(0), PARAMS)


class Scaled(LowRank):
    """Another kind of structured weight."""


def scaled(selector: str) -> ft.Adaptation:
    """LoRA whose weights are of the other kind."""
    inner = ft.lora(selector)

    def bind(frozen: Any, delta: Any, *, key: Any = None) -> Any:
        return jax.tree.map(
            lambda leaf: Scaled(leaf.base, leaf.a, leaf.b, leaf.scale) if is_structured(leaf) else leaf,
            inner.bind(frozen, delta, key=key),
            is_leaf=is_structured,
        )

    return ft.Adaptation(inner.init, bind)


def test_a_link_is_compared_with_all_before_it() -> None:
    kinds = ft.lora("query/kernel"), scaled("query/kernel")
    ft.chain(*kinds).init(jax.random.key(0), PARAMS)
    with pytest.raises(ft.InputError, match="adaptations 2 and 3 of the chain overlap at 'query/kernel'"):
        ft.chain(*kinds, scaled("query/kernel")).init(jax.random.key(0), PARAMS)
