"""What models make of adapters, prompts and prefixes in their params."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.models.attention import Attention
from jaxft.models.block import Block
from jaxft.models.cache import empty_cache
from jaxft.models.load import build_apply
from jaxft.models.transformer import FeedForward
from tests.models.golden import golden, run

ENCODERS = ("bert_pair", "roberta_classify", "distilbert_classify", "electra_classify")
DECODERS = ("gpt1_lm", "gpt2_lm", "llama_lm", "qwen3_lm", "mistral_lm")
SOURCES = ("t5_relu", "encoder_decoder_bert")
BEFORE = np.array([5, 9], np.int32)


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dense(seed: int, inputs: int, outputs: int) -> dict[str, np.ndarray]:
    return {"kernel": draw(seed, inputs, outputs), "bias": draw(seed + 100, outputs)}


def block(**changes: Any) -> Block:
    sizes = Block(6, 2, 3, 5, 1, activation="tanh", norm_eps=1e-6, scale=0.5)
    return sizes._replace(**changes)


def norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def through(layer: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ layer["kernel"] + layer["bias"]


@pytest.mark.parametrize("pre_norm", [True, False])
def test_adapters_of_a_feed_forward_by_hand(pre_norm: bool):
    x, b = draw(0, 2, 4, 6), block(pre_norm=pre_norm)
    up, down = dense(1, 6, 5), dense(2, 5, 6)
    behind, beside = ({"down": dense(seed, 6, 3), "up": dense(seed + 1, 3, 6)} for seed in (3, 5))
    unit = {"scale": np.ones(6, np.float32), "bias": np.zeros(6, np.float32)}
    slots = {"bottleneck": {"relu": behind}, "parallel": {"tanh": beside}}
    params = {"norm": unit, "up": up, "down": down | slots}
    inputs = norm(x) if pre_norm else x
    h = through(down, np.tanh(through(up, inputs)))
    h = (
        h
        + through(behind["up"], np.maximum(through(behind["down"], h), 0))
        + through(beside["up"], np.tanh(through(beside["down"], inputs)))
    )
    expected = x + h if pre_norm else norm(x + h)
    np.testing.assert_allclose(FeedForward(b).apply({"params": params}, x, False), expected, atol=1e-4)


def test_a_prefix_of_attention_by_hand():
    x, b = draw(0, 2, 4, 6), block()
    parts = {"query": dense(1, 6, 6), "key": dense(2, 6, 3), "value": dense(3, 6, 3), "output": dense(4, 6, 6)}
    unit = {"scale": np.ones(6, np.float32), "bias": np.zeros(6, np.float32)}
    prefix = {"key": draw(5, 2, 3), "value": draw(6, 2, 3)}
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)[:, None, None]
    found, probabilities, *_ = Attention(b).apply({"params": parts | {"norm": unit, "prefix": prefix}}, x, mask, False)
    query = through(parts["query"], x).reshape(2, 4, 2, 3)
    for row in range(2):
        key, value = (np.concatenate([prefix[p], through(parts[p], x[row])]) for p in ("key", "value"))
        scores = 0.5 * np.einsum("qhd,kd->hqk", query[row], key)
        weights = np.exp(scores) * np.concatenate([[True, True], mask[row, 0, 0]])
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,kd->qhd", weights, value).reshape(4, 6)
        np.testing.assert_allclose(probabilities[row], weights, atol=1e-5)
        np.testing.assert_allclose(found[row], norm(x[row] + through(parts["output"], mixed)), atol=1e-4)


def test_an_adapter_without_a_known_activation_raises():
    adapter = {"down": dense(1, 6, 3), "up": dense(2, 3, 6)}
    for tree in ({"cosine": adapter}, {"relu": adapter, "tanh": adapter}):
        params = {"norm": {}, "up": dense(1, 6, 5), "down": dense(2, 5, 6) | {"bottleneck": tree}}
        with pytest.raises(ft.InputError, match="name of one activation"):
            FeedForward(block()).apply({"params": params}, draw(0, 1, 2, 6), False)


def with_prompt(params: Any, ids: np.ndarray) -> Any:
    frozen, delta = (adaptation := ft.prompt(length=len(ids), init=list(ids))).init(jax.random.key(0), params)
    return adaptation.bind(frozen, delta)


def lengthened(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same texts behind two words."""
    rows = len(batch["input_ids"])
    longer = {"input_ids": np.tile(BEFORE, (rows, 1)), "attention_mask": np.ones((rows, 2), np.int32)}
    longer["token_type_ids"] = np.zeros((rows, 2), np.int32)
    return {k: np.concatenate([longer[k], v], axis=1) if k in longer else v for k, v in batch.items()}


def short(batch: dict[str, np.ndarray], room: int = 4) -> dict[str, np.ndarray]:
    """The same texts without their ends, so that the models have positions left."""
    return {k: v if k.startswith("decoder") else v[:, : v.shape[1] - room] for k, v in batch.items()}


@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS, *SOURCES])
def test_a_prompt_of_words_is_those_words_before_the_text(name: str):
    options = {"pooling": "cls"} if name in ENCODERS else {}
    model, batch, _ = golden(name, **options)
    batch = short(batch)
    found = run(model, batch, with_prompt(model.params, BEFORE))
    expected = run(model, lengthened(batch))
    if name in DECODERS:
        expected = expected._replace(logits=expected.logits[:, 2:])
    real = np.asarray(batch["attention_mask"], bool)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    states = "encoder_hidden_states" if name in SOURCES else "hidden_states"
    for ours, theirs in zip(getattr(found, states), getattr(expected, states), strict=True):
        np.testing.assert_allclose(
            np.where(real[..., None], ours, 0), np.where(real[..., None], theirs[:, 2:], 0), atol=1e-5
        )


def test_a_mean_leaves_the_prompt_out_and_tags_have_no_place_for_it():
    model, batch, _ = golden("bert_gelu", pooling="mean", task="features")
    batch = short(batch)
    outputs = run(model, batch, with_prompt(model.params, BEFORE))
    weights = np.asarray(batch["attention_mask"], np.float32)[..., None]
    mean = (np.asarray(outputs.hidden_states[-1]) * weights).sum(1) / weights.sum(1)
    np.testing.assert_allclose(outputs.features, mean, atol=1e-5)
    model, batch, _ = golden("bert_tag")
    batch = short(batch)
    assert run(model, batch, with_prompt(model.params, BEFORE)).logits.shape[:2] == batch["input_ids"].shape


def prefixed(params: Any, stack: str, parts: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """Params with the same keys and values ``[places, heads · dim]`` as prefixes of the layers of a stack."""
    layers = dict(params[stack])
    for index, (key, value) in enumerate(parts):
        layer = dict(layers[f"layer_{index}"])
        layer["attention"] = layer["attention"] | {"prefix": {"key": key, "value": value}}
        layers[f"layer_{index}"] = layer
    return params | {stack: layers}


@pytest.mark.parametrize("name", ["gpt1_lm", "gpt2_lm", "llama_lm", "qwen3_lm", *SOURCES])
def test_a_prefix_of_the_keys_and_values_of_words_is_those_words_before_the_text(name: str):
    model, batch, _ = golden(name)
    ids = "decoder_input_ids" if name in SOURCES else "input_ids"
    rest = {k: v[:1] for k, v in batch.items() if name in SOURCES and not k.startswith("decoder")}
    text = batch[ids][:1, :7]
    first = {ids: BEFORE[None], **rest, "cache": empty_cache(model.config.cache_sizes, 1, 2)}
    cache = run(model, first).cache
    parts = [
        tuple(np.asarray(part[0]).transpose(1, 0, 2).reshape(2, -1) for part in (layer.key, layer.value))
        for layer in cache.layers
    ]
    found = run(model, {ids: text, **rest}, prefixed(model.params, "decoder", parts))
    expected = run(model, {ids: np.concatenate([BEFORE[None], text], axis=1), **rest})
    np.testing.assert_allclose(found.logits, expected.logits[:, 2:], atol=1e-5)


@pytest.mark.parametrize("name", ["bert_pair", "roberta_classify"])
def test_positions_of_an_encoder_count_on_from_its_prefix(name: str):
    model, batch, _ = golden(name)
    batch = short(batch)

    def deaf(path: str, leaf: Any) -> Any:
        """Queries that are all alike, so that a key can be hidden from them."""
        return leaf * 0 + path.endswith("bias") if "/query/" in path else leaf

    params = jax.tree_util.tree_map_with_path(lambda p, leaf: deaf("/".join(k.key for k in p), leaf), model.params)
    size = model.config.hidden_size
    parts = [(np.full((2, size), -1e3, np.float32), np.ones((2, size), np.float32))] * model.config.num_layers
    found = run(model, batch, prefixed(params, "encoder", parts))
    table = np.array(params["embeddings"]["position"]["embedding"])
    first = 0 if name == "bert_pair" else model.config.padding_position + 1
    table[first:-2] = table[first + 2 :]
    moved = params | {"embeddings": params["embeddings"] | {"position": {"embedding": jnp.asarray(table)}}}
    np.testing.assert_allclose(found.logits, run(model, batch, moved).logits, atol=1e-5)
    assert np.abs(found.logits - run(model, batch, params).logits).max() > 1e-3


def everything_added(params: Any, text: bool = True) -> Any:
    links = [ft.bottleneck("**/{attention/output,feed_forward/down}/kernel", size=3), ft.parallel_adapter(size=2)]
    links += [ft.prefix(length=2)] + ([ft.prompt(length=2)] if text else [])
    adaptation = ft.chain(*links)
    frozen, delta = adaptation.init(jax.random.key(0), params)
    return adaptation.bind(frozen, jax.tree.map(lambda leaf: leaf + 0.2 * draw(1, *leaf.shape), delta))


@pytest.mark.parametrize("name", ["bert_pair", "roberta_classify", "gpt2_classify", "llama_lm", "t5_relu"])
def test_padding_does_not_change_logits(name: str):
    model, batch, _ = golden(name)
    batch = {k: v for k, v in short(batch, 6).items() if k != "token_type_ids"}
    params = everything_added(model.params)
    padded = dict(batch)
    for key in ("input_ids", "attention_mask"):
        fill = 0 if key == "attention_mask" else model.config.raw.get("pad_token_id") or 0
        padded[key] = np.pad(batch[key], ((0, 0), (0, 2)), constant_values=fill)
    found, expected = run(model, padded, params).logits, run(model, batch, params).logits
    if name == "llama_lm":
        real = np.asarray(batch["attention_mask"], bool)[..., None]
        found, expected = (np.where(real, logits[:, : real.shape[1]], 0) for logits in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2_lm", "llama_lm"])
@pytest.mark.parametrize("length", [1, 5])
def test_generation_equals_reading_the_whole_text_again(name: str, length: int):
    model, _, _ = golden(name)
    params = everything_added(model.params)
    ids = np.arange(10, 10 + 2 * length, dtype=np.int32).reshape(2, length)
    mask = np.ones_like(ids)
    if length > 1:
        mask[0, :2] = 0  # padded on the left
    found = ft.generate(
        model, {"input_ids": ids, "attention_mask": mask}, params=params, max_new_tokens=6, stop_tokens=[]
    )
    written = found.tokens
    whole = {"input_ids": np.concatenate([ids, written], axis=1)}
    whole["attention_mask"] = np.concatenate([mask, np.ones_like(written)], axis=1)
    logits = run(model, whole, params).logits[:, length - 1 : -1]
    np.testing.assert_array_equal(logits.argmax(-1), written)


def test_generation_behind_an_encoder_with_a_prompt():
    model, batch, _ = golden("t5_relu")
    params = everything_added(model.params)
    source = {k: batch[k] for k in ("input_ids", "attention_mask")}
    found = ft.generate(model, source, params=params, max_new_tokens=4, stop_tokens=[])
    start = np.full((len(found.tokens), 1), model.config.decoder_start_token, np.int32)
    written = np.concatenate([start, found.tokens[:, :-1]], axis=1)
    logits = run(model, {**source, "decoder_input_ids": written}, params).logits
    np.testing.assert_array_equal(logits.argmax(-1), found.tokens)


def test_packed_documents_each_see_the_prompt():
    model, _, _ = golden("llama_lm")
    params = everything_added(model.params)
    one, other = np.arange(5, 10)[None], np.arange(20, 24)[None]
    segments = np.array([[1] * 5 + [2] * 4])
    packed = run(model, {"input_ids": np.concatenate([one, other], axis=1), "segment_ids": segments}, params).logits
    np.testing.assert_allclose(packed[:, :5], run(model, {"input_ids": one}, params).logits, atol=1e-5)
    np.testing.assert_allclose(packed[:, 5:], run(model, {"input_ids": other}, params).logits, atol=1e-5)


@pytest.mark.parametrize("name", ["bert_pair", "llama_lm", "t5_relu", "vit_classify"])
def test_layers_computed_again_have_the_same_gradient(name: str):
    model, batch, _ = golden(name)
    batch = batch if name == "vit_classify" else short(batch, 6)
    params = everything_added(model.params, text=name != "vit_classify")

    def gradient(remat: bool) -> Any:
        apply = build_apply(model.config, remat)
        return jax.jit(jax.grad(lambda params: jnp.sin(apply(params, batch).logits).sum()))(params)

    stored, again = ft.leaf_paths(gradient(False)), ft.leaf_paths(gradient(True))
    for path, leaf in stored.items():
        np.testing.assert_allclose(again[path], leaf, atol=2e-4, err_msg=path)
        if {"bottleneck", "parallel", "prefix", "prompt"} & set(path.split("/")):
            assert np.abs(leaf).max() > 0, path


def test_prompts_and_prefixes_take_positions():
    model, _, _ = golden("gpt2_lm")
    most = model.config.max_positions
    ids = np.zeros((1, most - 3), np.int32)
    params = everything_added(model.params)
    with pytest.raises(ft.InputError, match=f"a prompt or prefix takes 4: truncate it to {most - 4}"):
        model.apply(params, {"input_ids": ids})
    assert np.isfinite(run(model, {"input_ids": ids[:, 1:]}, params).logits).all()
    with pytest.raises(ft.InputError, match=f"but the model has {most - 4} positions"):
        ft.generate(model, {"input_ids": ids[:, 1:]}, params=params, max_new_tokens=1)
    with pytest.raises(ft.InputError, match=r"2 places, of which 0 hold tokens, and 3 more"):
        model.apply(params, {"input_ids": ids[:, :1], "cache": empty_cache(model.config.cache_sizes, 1, 2)})


def test_a_model_with_slots_is_not_saved_as_one_without(tmp_path: Path):
    model, _, _ = golden("bert_gelu")
    with pytest.raises(ft.InputError, match=r"no place for .*embeddings/prompt.*save_adapter"):
        ft.save_model(model._replace(params=with_prompt(model.params, BEFORE)), tmp_path / "saved")
