"""Rates by layer, by factor and by glob: the numbers, with chains of adaptations, and what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.train.rates import layer_depths

PARAMS = {
    "embeddings": {"word": jnp.ones((5, 4))},
    "encoder": {f"layer_{index}": {"up": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}} for index in range(3)},
    "head": {"kernel": jnp.ones((4, 2))},
}


def learned(adaptation: ft.Adaptation, weights: Any = ()) -> dict[str, Any]:
    return {"delta": adaptation.init(jax.random.key(0), PARAMS)[1], "weights": weights}


def ratios(optimizer: optax.GradientTransformation, tree: Any) -> dict[str, float]:
    """By what each leaf's update with a rate of one and a gradient of one is multiplied."""
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, tree), optimizer.init(tree), tree)
    return {path: -float(leaf.ravel()[0]) for path, leaf in ft.leaf_paths(updates).items()}


def test_layerwise_rates_by_hand():
    found = ratios(ft.layerwise_rates(optax.sgd(1.0)), learned(ft.full(), {"critic": jnp.ones(2)}))
    expected = {"embeddings/word": 2.6**-4, "head/kernel": 1.0}
    for index in range(3):
        for name in ("kernel", "bias"):
            expected[f"encoder/layer_{index}/up/{name}"] = 2.6 ** (index - 3)
    assert found.pop("weights/critic") == 1.0
    assert found == pytest.approx({f"delta/{path}": rate for path, rate in expected.items()})


def test_the_links_of_a_chain_are_one_model():
    adaptation = ft.chain(ft.lora("encoder/*/up/kernel", rank=2), ft.tune("head/**"))
    found = ratios(ft.layerwise_rates(optax.sgd(1.0), decay=2.0), learned(adaptation))
    assert found["delta/1/head/kernel"] == 1.0
    for index in range(3):
        for factor in "ab":
            assert found[f"delta/0/encoder/layer_{index}/up/kernel/{factor}"] == 2.0 ** (index - 3)


def test_said_layers_hold_when_the_top_does_not_learn():
    optimizer = ft.layerwise_rates(optax.sgd(1.0), decay=2.0, layers=3)
    assert ratios(optimizer, learned(ft.tune("encoder/layer_0/**")))["delta/encoder/layer_0/up/bias"] == 0.125
    assert ratios(optimizer, learned(ft.tune("head/**")))["delta/head/kernel"] == 1.0


def test_depths_of_stages_and_stacks():
    stages = ["embeddings/stem/kernel", "encoder/stage_0/layer_0/w", "encoder/stage_0/layer_1/w"]
    stages += ["encoder/stage_1/layer_0/w", "head/kernel"]
    assert list(layer_depths(stages).values()) == [4, 3, 2, 1, 0]
    both = ["decoder_embeddings/word", "encoder/layer_0/w", "encoder/layer_1/w", "encoder/norm/scale"]
    both += ["decoder/layer_0/w", "decoder/layer_1/w", "decoder/norm/scale", "lm_head/kernel"]
    assert list(layer_depths(both).values()) == [5, 4, 3, 3, 2, 1, 0, 0]
    assert layer_depths(["layers/0/w", "layers/10/w", "head/w"]) == {"layers/0/w": 11, "layers/10/w": 1, "head/w": 0}


def test_lora_plus_is_an_adamw_of_its_own_for_b():
    tree = learned(ft.chain(ft.lora("encoder/*/up/kernel", rank=2), ft.tune("head/**")))
    gradient = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape), tree)

    def run(optimizer: optax.GradientTransformation) -> dict[str, Any]:
        moved, state = tree, optimizer.init(tree)
        for _ in range(3):
            updates, state = optimizer.update(gradient, state, moved)
            moved = optax.apply_updates(moved, updates)
        return ft.leaf_paths(moved)

    ours = run(ft.lora_plus(optax.adamw(1e-2, weight_decay=0.1), ratio=4.0))
    slow, fast = (run(optax.adamw(rate, weight_decay=0.1)) for rate in (1e-2, 4e-2))
    for path, value in ours.items():
        np.testing.assert_allclose(value, (fast if path.endswith("/b") else slow)[path], atol=1e-6, err_msg=path)


def test_rates_by_glob_take_the_first_match_and_may_be_traced():
    tree = learned(ft.chain(ft.tune("head/**"), ft.tune("encoder/**")), {"critic": jnp.ones(2)})

    @jax.jit
    def run(rate: Any) -> Any:
        optimizer = ft.discriminative_rates(optax.sgd(1.0), {"**/layer_2/**": rate, "encoder/**": 0.5, "**": 3.0})
        return optimizer.update(jax.tree.map(jnp.ones_like, tree), optimizer.init(tree), tree)[0]

    found = {path: -float(leaf.ravel()[0]) for path, leaf in ft.leaf_paths(run(0.25)).items()}
    assert found["delta/1/encoder/layer_2/up/bias"] == 0.25
    assert found["delta/1/encoder/layer_1/up/bias"] == 0.5
    assert found["delta/0/head/kernel"] == 3.0
    assert found["weights/critic"] == 1.0
    named = ft.discriminative_rates(optax.sgd(1.0), {"weights/**": 2.0, "**": 1.0})
    assert ratios(named, tree)["weights/critic"] == 2.0


def test_types_are_kept():
    tree = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), learned(ft.full()))
    optimizer = ft.layerwise_rates(optax.sgd(1.0), decay=jnp.float32(2.6))
    updates, _ = optimizer.update(tree, optimizer.init(tree), tree)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("optimizer", "adaptation", "said"),
    [
        (ft.layerwise_rates(optax.sgd(1.0)), ft.tune("head/**"), "finds no numbered layer.*head/kernel.*give layers="),
        (ft.layerwise_rates(optax.sgd(1.0), layers=2), ft.full(), "said to have 2 layers, but .* has a layer 2"),
        (ft.lora_plus(optax.sgd(1.0)), ft.full(), "no pair of factors a and b among the 8 arrays"),
        (ft.discriminative_rates(optax.sgd(1.0), {"hed/**": 1.0, "**": 0.1}), ft.full(), "'hed/.*nearest: head/kernel"),
        (ft.discriminative_rates(optax.sgd(1.0), {"head/**": 1.0}), ft.full(), "add a last pattern"),
    ],
)
def test_refusals(optimizer: Any, adaptation: ft.Adaptation, said: str):
    with pytest.raises(ft.InputError, match=said):
        optimizer.init(learned(adaptation))


def test_layers_of_several_stages_are_not_counted_by_one_number():
    with pytest.raises(ft.InputError, match="several stacks or stages"):
        layer_depths(["encoder/stage_0/layer_0/w", "encoder/stage_1/layer_0/w"], layers=2)


def test_a_bare_tree_is_refused():
    with pytest.raises(ft.InputError, match=r"what a step gives it.*but got \['kernel'\]"):
        ft.layerwise_rates(optax.sgd(1.0)).init({"kernel": jnp.ones(2)})


def test_a_slanted_triangle_by_hand():
    # T = 105, cut = 0.1: c = 10, the fall takes c (1/cut − 1) = 90 steps and p stays at zero for the last five
    schedule = ft.slanted_triangular(0.01, 105, cut=0.1, ratio=32)
    for step, p in ((0, 0.0), (4, 0.4), (10, 1.0), (55, 0.5), (100, 0.0), (105, 0.0)):
        assert float(schedule(jnp.int32(step))) == pytest.approx(0.01 * (1 + p * 31) / 32, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"cut": 0.0}, "cut is 0.0"), ({"cut": 0.001}, "at least one step"), ({"ratio": 0.5}, "at least 1, but is 0.5")],
)
def test_wrong_triangles_are_refused(options: dict[str, float], said: str):
    with pytest.raises(ft.InputError, match=said):
        ft.slanted_triangular(1.0, 100, **options)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: ft.layerwise_rates(inner, layers=3),
        lambda inner: ft.discriminative_rates(optax.chain(optax.clip(1.0), inner), {"**": 0.5}),
    ],
)
def test_a_rank_budget_goes_outermost(wrap: Any):
    tree = learned(ft.adalora("encoder/*/up/kernel", rank=2))
    phases = {"steps": 3, "warmup": 0, "final": 1, "rank": 1, "interval": 1}
    with pytest.raises(ft.InputError, match="put rank_budget outermost"):
        wrap(ft.rank_budget(optax.sgd(0.1), **phases)).init(tree)
    optimizer = ft.rank_budget(wrap(optax.sgd(0.1)), **phases)
    state = optimizer.init(tree)
    for _ in range(3):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, tree), state, tree)
        tree = optax.apply_updates(tree, updates)
    left = [leaf for path, leaf in ft.leaf_paths(tree).items() if path.endswith("lambda")]
    assert sum(int(jnp.count_nonzero(leaf)) for leaf in left) == 3  # of six, one for each of three matrices


def test_embeddings_are_known_by_whole_words():
    lowest = ["embeddings/word/embedding", "wte/embedding", "embed_tokens/w", "patch_embed/kernel", "stem/conv/kernel"]
    lowest += ["encoder/relative_bias", "positions_embed/w"]
    highest = ["head/system/kernel", "embedded/w", "dispatch/w", "preposition/w"]
    highest += ["embeddings/prompt", "encoder/layer_0/attention/prefix/key", "encoder/layer_1/attention/prefix/value"]
    depths = layer_depths([*lowest, *highest, "encoder/layer_0/w", "encoder/layer_1/w"])
    assert {name: depths[name] for name in lowest} == dict.fromkeys(lowest, 3)
    assert {name: depths[name] for name in highest} == dict.fromkeys(highest, 0)
    assert depths["encoder/layer_0/w"] == 2
