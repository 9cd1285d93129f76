"""Adapters, prompts and prefixes as data: what is added where, how it starts, what is refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from tests.models.golden import golden, run


def linear(inputs: int, outputs: int) -> dict[str, Any]:
    return {"kernel": jnp.full((inputs, outputs), 0.5), "bias": jnp.zeros(outputs)}


def layer(dim: int = 4) -> dict[str, Any]:
    attention = {name: linear(dim, dim) for name in ("query", "key", "value", "output")}
    return {"attention": attention, "feed_forward": {"up": linear(dim, 6), "down": linear(6, dim)}}


PARAMS: dict[str, Any] = {
    "embeddings": {"word": {"embedding": jnp.arange(20.0).reshape(5, 4)}},
    "encoder": {f"layer_{index}": layer() for index in range(11)},
    "head": linear(4, 2),
}


def started(adaptation: ft.Adaptation, params: Any = PARAMS) -> dict[str, Any]:
    return ft.leaf_paths(adaptation.init(jax.random.key(0), params)[1])


@pytest.mark.parametrize("method", [ft.houlsby, ft.pfeiffer, ft.parallel_adapter])
def test_adapters_start_at_zero_behind_a_uniform_layer(method: Any) -> None:
    delta = started(method(size=50, activation="tanh"))
    parts = 2 if method is ft.houlsby else 1
    assert len(delta) == 4 * 11 * parts
    for path, leaf in delta.items():
        assert "/parallel/tanh/" in path if method is ft.parallel_adapter else "/bottleneck/tanh/" in path
        if path.endswith("/down/kernel"):
            assert 0.4 < float(jnp.abs(leaf).max()) <= 0.5  # 1 / √4
        else:
            assert not leaf.any()


def test_the_paper_s_sizes() -> None:
    sizes = {ft.houlsby: 64, ft.pfeiffer: 48, ft.parallel_adapter: 512}
    for method, size in sizes.items():
        assert {leaf.shape[1] for path, leaf in started(method()).items() if path.endswith("down/kernel")} == {size}


def test_the_scale_of_a_parallel_adapter_may_be_traced() -> None:
    def up(scale: Any) -> Any:
        adaptation = ft.parallel_adapter(size=2, scale=scale)
        frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
        bound = adaptation.bind(frozen, jax.tree.map(jnp.ones_like, delta))
        return bound["encoder"]["layer_3"]["feed_forward"]["down"]["parallel"]["relu"]

    found = jax.jit(up)(3.0)
    assert {float(leaf.max()) for leaf in jax.tree.leaves(found["up"])} == {3.0}
    assert {float(leaf.max()) for leaf in jax.tree.leaves(found["down"])} == {1.0}
    assert float(up(4.0)["up"]["bias"][0]) == 4.0


def test_prompts_start_as_they_are_told() -> None:
    table = np.asarray(PARAMS["embeddings"]["word"]["embedding"])
    words = np.asarray(started(ft.prompt(length=40))["embeddings/prompt"])
    assert {tuple(row) for row in words} == {tuple(row) for row in table}
    drawn = np.asarray(started(ft.prompt(length=400, init="random"))["embeddings/prompt"])
    assert 0.49 < np.abs(drawn).max() <= 0.5
    named = np.asarray(started(ft.prompt(length=3, init=np.array([4, 1])))["embeddings/prompt"])
    np.testing.assert_array_equal(named, table[[4, 1, 4]])


@pytest.mark.parametrize(
    ("adaptation", "message"),
    [
        (lambda: ft.prompt(init="text"), "'vocabulary', 'random' or token ids"),
        (lambda: ft.prompt(init=[]), "'vocabulary', 'random' or token ids"),
        (lambda: ft.prompt(init=[5]), "tokens from 5 to 5, but the model has 5"),
        (lambda: ft.prompt(length=0), "length to be a whole number from 1"),
        (lambda: ft.houlsby(size=0), "size to be a whole number from 1"),
        (lambda: ft.pfeiffer(activation="cosine"), "an activation among gelu"),
        (lambda: ft.bottleneck("**/bias"), r"expects kernels \[inputs, outputs\]"),
        (lambda: ft.prefix("**/query/kernel"), "expects kernels of keys"),
        (lambda: ft.prefix(reparametrise=0), "reparametrise to be a whole number"),
        (lambda: ft.prefix(dropout=1.0), "dropout rate"),
    ],
)
def test_bad_options_raise(adaptation: Any, message: str) -> None:
    with pytest.raises(ft.InputError, match=message):
        adaptation().init(jax.random.key(0), PARAMS)


def test_a_model_without_words_has_no_prompt() -> None:
    with pytest.raises(ft.InputError, match="a table of words at 'embeddings/word/embedding'"):
        ft.prompt().init(jax.random.key(0), {"encoder": PARAMS["encoder"]})


def test_a_reparametrised_prefix_is_a_small_network_cut_into_layers_in_order() -> None:
    adaptation = ft.prefix(length=3, reparametrise=5)
    frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
    shared = jax.tree.map(np.asarray, delta["prefix"])
    inner = np.tanh(shared["embedding"] @ shared["hidden"]["kernel"] + shared["hidden"]["bias"])
    flat = (inner @ shared["output"]["kernel"] + shared["output"]["bias"]).reshape(3, 11, 2, 4)
    bound = adaptation.bind(frozen, delta)
    for index in range(11):
        found = bound["encoder"][f"layer_{index}"]["attention"]["prefix"]
        np.testing.assert_allclose(found["key"], flat[:, index, 0], atol=1e-6)
        np.testing.assert_allclose(found["value"], flat[:, index, 1], atol=1e-6)


def test_links_of_a_chain_add_beside_what_others_change() -> None:
    links = (ft.lora("**/attention/key/kernel", rank=2), ft.prefix(length=2), ft.houlsby(size=2), ft.tune("head/**"))
    bound = []
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
        adaptation = ft.chain(*(links[index] for index in order))
        frozen, delta = adaptation.init(jax.random.key(0), PARAMS)
        bound.append(ft.leaf_paths(adaptation.bind(frozen, jax.tree.map(jnp.ones_like, delta))))
    nested = ft.chain(ft.chain(*links[:2]), ft.chain(*links[2:]))
    frozen, delta = nested.init(jax.random.key(0), PARAMS)
    bound.append(ft.leaf_paths(nested.bind(frozen, jax.tree.map(jnp.ones_like, delta))))
    for other in bound[1:]:
        assert other.keys() == bound[0].keys()
        for path, leaf in bound[0].items():
            np.testing.assert_array_equal(leaf, other[path], err_msg=path)


def test_two_links_cannot_add_the_same() -> None:
    with pytest.raises(ft.InputError, match=r"overlap at 'embeddings/prompt': added by one, added by the other"):
        ft.chain(ft.prompt(), ft.prompt(length=3)).init(jax.random.key(0), PARAMS)
    frozen, delta = ft.houlsby().init(jax.random.key(0), PARAMS)
    once = ft.houlsby().bind(frozen, delta)
    with pytest.raises(ft.InputError, match=r"something at '.*bottleneck/gelu/down/(bias|kernel)' already"):
        ft.houlsby().bind(once, delta)


def test_the_summary_has_rows_for_what_is_added() -> None:
    table = ft.summary(ft.chain(ft.houlsby(size=3), ft.prefix(length=2, reparametrise=5)), PARAMS, optax.adam(1e-3))
    rows = {row.path: row for row in table.rows}
    adapter = rows["encoder/layer_0/attention/output/bottleneck/gelu/up/kernel"]
    assert adapter[1:] == ((3, 4), "trained", 12, 12, 48, 96)
    assert rows["encoder/layer_0/attention/prefix/key"][2:5] == ("added", 8, 0)
    assert rows["prefix/hidden/kernel"][1:] == ((4, 5), "trained beside", 0, 20, 80, 160)
    assert table.trained == 22 * (2 * 4 * 3 + 3 + 4) + 2 * 4 + 5 * 4 + 5 + 6 * 11 * 2 * 4


def test_fresh_layers() -> None:
    params = PARAMS | {"norm": {"scale": jnp.full(3, 7.0), "bias": jnp.ones(3)}}
    fresh = ft.reinitialise(params, "{encoder/layer_10,norm}/**", jax.random.key(0), scale=0.5)
    leaves, before = ft.leaf_paths(fresh), ft.leaf_paths(params)
    assert all(
        leaves[path] is leaf for path, leaf in before.items() if not path.startswith(("encoder/layer_10", "norm"))
    )
    assert fresh["norm"]["scale"].tolist() == [1.0] * 3
    assert fresh["norm"]["bias"].tolist() == [0.0] * 3
    drawn = jnp.concatenate([leaf.ravel() for path, leaf in leaves.items() if "layer_10" in path and "kernel" in path])
    assert abs(float(drawn.std()) - 0.5) < 0.1
    assert len(set(np.asarray(drawn).tolist())) == drawn.size
    with pytest.raises(ft.InputError, match="kernel, embedding, scale and bias"):
        ft.reinitialise({"steps": jnp.ones(2)}, "steps", jax.random.key(0))
    frozen, delta = (lora := ft.lora("head/kernel")).init(jax.random.key(0), PARAMS)
    with pytest.raises(ft.InputError, match="is LowRank: leave it out"):
        ft.reinitialise(lora.bind(frozen, delta), "head/**", jax.random.key(0))


def test_everything_at_once_is_the_same_bound_and_merged() -> None:
    model, batch, _ = golden("gpt2_classify")
    batch = {k: v[:, :8] if v.ndim == 2 else v for k, v in batch.items()}
    links = [ft.prompt(length=2), ft.lora("**/{attention/key,feed_forward/down}/kernel", rank=2), ft.prefix(length=2)]
    adaptation = ft.chain(*links, ft.houlsby(size=2), ft.parallel_adapter(size=2), ft.tune("head/**"))
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    delta = jax.tree.map(lambda leaf: leaf + 0.1, delta)
    bound = run(model, batch, adaptation.bind(frozen, delta)).logits
    np.testing.assert_allclose(bound, run(model, batch, ft.merge(adaptation, frozen, delta)).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "adaptation", "path"),
    [
        ("bert_gelu", ft.bottleneck("**/attention/query/kernel", size=2), "query/bottleneck/gelu/down"),
        ("vit_classify", ft.parallel_adapter("head/kernel", size=2), "head/parallel/relu"),
    ],
)
def test_a_step_refuses_a_slot_that_the_model_does_not_have(name: str, adaptation: Any, path: str) -> None:
    model, batch, _ = golden(name, dropout=0.0)
    batch = batch | {"labels": np.zeros(len(next(iter(batch.values()))), np.int32)}
    step = ft.make_step(model.apply, adaptation, ft.cross_entropy(), optax.sgd(0.1))
    with pytest.raises(ft.InputError, match=rf"does not depend on .*{path}.*no such slot"):
        step.init(jax.random.key(0), model.params, batch)


def test_adapters_of_minilm_learn() -> None:
    model = ft.load_model("minilm", task="classify", num_labels=2, dropout=0.0)
    written = ["a fine film", "dull and slow", "lovely", "a waste of time"]
    texts = dict(model.tokenizer(written, padding=True, return_tensors="np"))
    batch = texts | {"labels": np.array([1, 0, 1, 0])}
    adaptation = ft.chain(ft.houlsby(size=8), ft.tune("head/**"))
    step = ft.make_step(model.apply, adaptation, ft.cross_entropy(), optax.adam(1e-2))
    frozen, state = step.init(jax.random.key(0), model.params, batch)
    start = run(model, texts, adaptation.bind(frozen.model, state.delta)).logits
    np.testing.assert_allclose(start, run(model, texts).logits, atol=1e-6)
    update, losses = jax.jit(step.update), []
    for _ in range(8):
        state, metrics = update(frozen, state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    bound = run(model, texts, adaptation.bind(frozen.model, state.delta)).logits
    merged = run(model, texts, ft.merge(adaptation, frozen.model, state.delta)).logits
    np.testing.assert_allclose(bound, merged, atol=1e-5)


@pytest.mark.parametrize("method", [ft.houlsby, ft.pfeiffer, ft.parallel_adapter, ft.prefix])
def test_places_that_only_our_transformers_have_are_named(method: Any) -> None:
    with pytest.raises(ft.InputError, match=r"is for the transformers of load_model: .*/kernel"):
        method().init(jax.random.key(0), {"dense": linear(3, 2)})
