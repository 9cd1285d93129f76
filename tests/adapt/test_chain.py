"""Chains of adaptations: what may lie together and what may not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


KERNEL = "query/kernel"
METHODS: dict[str, ft.Adaptation] = {
    "quantise": ft.quantise(KERNEL),
    "lora": ft.lora(KERNEL, rank=2),
    "dora": ft.dora(KERNEL, rank=2),
    "vera": ft.vera(KERNEL, rank=2),
    "ia3": ft.ia3(KERNEL),
    "bitfit": ft.bitfit("query/*"),
    "norms": ft.norms(),
}
LOW_RANK = {"lora", "vera"}
REFUSED = {(name, name) for name in METHODS} | {(one, two) for one in LOW_RANK for two in LOW_RANK}
REFUSED |= {("dora", "ia3"), ("bitfit", "ia3")}
PAIRS = [(one, two) for one in METHODS for two in METHODS if two != "quantise"]


def net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> jax.Array:
    hidden = batch["x"] @ params["query"]["kernel"] + params["query"]["bias"]
    return (jnp.tanh(hidden) * params["norm"]["scale"]) @ params["head"]["kernel"]


@pytest.mark.parametrize(("one", "two"), PAIRS, ids="-".join)
def test_every_pair_trains_or_is_refused(one: str, two: str) -> None:
    kernel = jnp.cos(jnp.arange(24.0)).reshape(6, 4)
    params = {
        "query": {"kernel": kernel, "bias": jnp.full(4, 0.1)},
        "norm": {"scale": jnp.ones(4)},
        "head": {"kernel": kernel[:4, :2]},
    }
    adaptation = ft.chain(METHODS[one], METHODS[two])
    batch = {"x": jnp.sin(jnp.arange(18.0)).reshape(3, 6), "labels": jnp.array([0, 1, 0])}
    step = ft.make_step(net, adaptation, ft.cross_entropy(), optax.sgd(0.1))
    if (one, two) in REFUSED:
        with pytest.raises(ft.InputError, match=r"of the chain overlap|put ia3 before that link"):
            step.init(jax.random.key(0), params, batch)
        return
    frozen, state = step.init(jax.random.key(0), params, batch)
    first, metrics = jax.jit(step.update)(frozen, state, batch)
    logs = jax.nn.log_softmax(net(params, batch))
    base = -jnp.mean(jnp.take_along_axis(logs, batch["labels"][:, None], axis=1))
    np.testing.assert_allclose(metrics["loss"], base, atol=0.05 if one == "quantise" else 1e-5)
    before = ft.leaf_paths(state.delta)
    still = {path for path, leaf in ft.leaf_paths(first.delta).items() if np.array_equal(leaf, before[path])}
    assert {path.split("/")[-1] for path in still} <= {"a", "d"}  # whose partner b is zero at the start


def test_ia3_over_dora_rescales_its_outputs() -> None:
    adaptation = ft.chain(ft.ia3(KERNEL), ft.dora(KERNEL, rank=2))
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, delta[0]), delta[1]
    merged = ft.merge(adaptation, frozen, doubled)["query"]["kernel"]
    np.testing.assert_allclose(merged, 2 * PARAMS["query"]["kernel"], rtol=1e-6)
    with pytest.raises(ft.InputError, match=r"which would undo it; put adaptation 2 before adaptation 1"):
        ft.chain(ft.dora(KERNEL, rank=2), ft.ia3(KERNEL)).init(jax.random.key(0), PARAMS)


def test_a_base_in_parts_that_no_link_touches_is_no_overlap() -> None:
    params, _ = ft.quantise("head/kernel").init(jax.random.key(0), PARAMS)
    ft.chain(ft.lora(KERNEL, rank=2), ft.tune("query/bias")).init(jax.random.key(0), params)
