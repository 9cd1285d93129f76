"""T5 and BERT2BERT: through a cache, through other tasks and files, and started from pretrained parts."""

from __future__ import annotations

import functools
import json
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.errors import InputError
from jaxft.models import load_model, save_model, warm_start
from jaxft.models.cache import empty_cache
from jaxft.models.relative import buckets
from jaxft.trees import leaf_paths
from jaxft.types import Model
from tests.models.golden import GOLDEN, SEQ2SEQ, Arrays, edited, golden, moves, raw_config, run, same

every_case = pytest.mark.parametrize("name", SEQ2SEQ)
one_each = pytest.mark.parametrize("name", ["t5_gated", "encoder_decoder_sizes"])


def close(found, expected: np.ndarray, what: str = "") -> None:
    """Within 1e-5, of the largest value where that is above 1: residual streams reach 70."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale, err_msg=what)


@every_case
def test_greedy_tokens_through_the_cache_equal_hugging_faces(name: str):
    model, batch, expected = golden(name)
    c, wanted = model.config, expected["generated"]
    rows, steps = wanted.shape
    apply = jax.jit(model.apply)
    mask = batch["attention_mask"]
    token = np.full((rows, 1), c.decoder_start_token)
    first = {"input_ids": batch["input_ids"], "attention_mask": mask, "decoder_input_ids": token}
    outputs = apply(model.params, {**first, "cache": empty_cache(c.cache_sizes, rows, steps)})
    found, ended = np.full((rows, steps), c.pad_token), np.zeros(rows, bool)
    for step in range(steps):
        token = np.where(ended, c.pad_token, np.asarray(outputs.logits[:, -1]).argmax(-1))
        found[:, step] = token
        ended |= token == c.eos_token
        if step + 1 < steps:
            later = {"attention_mask": mask, "decoder_input_ids": token[:, None], "cache": outputs.cache}
            outputs = apply(model.params, later)
            assert outputs.encoder_hidden_states is None, "the encoder runs once"
    np.testing.assert_array_equal(found, wanted)
    assert ended.any() == (c.eos_token is not None)


@every_case
def test_tokens_in_pieces_equal_the_whole(name: str):
    model, batch, _ = golden(name)
    ids = batch["decoder_input_ids"]
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    apply = jax.jit(model.apply)
    whole = apply(model.params, {**source, "decoder_input_ids": ids})
    assert whole.cache is None
    cache = empty_cache(model.config.cache_sizes, len(ids), ids.shape[1] + 2)
    logits = []
    for start, stop in ((0, 3), (3, 6), (6, 9)):
        part = {**source, "decoder_input_ids": ids[:, start:stop], "cache": cache}
        outputs = apply(model.params, part)
        cache = outputs.cache
        logits.append(outputs.logits)
    close(jnp.concatenate(logits, axis=1), np.asarray(whole.logits))


@pytest.mark.slow
@one_each
def test_remat_and_dropout(name: str):
    model, batch, _ = golden(name)
    key = jax.random.key(3, impl="rbg")  # its bits are one instruction, the default's are hundreds to compile

    def loss(some: Model):
        return jax.jit(
            jax.value_and_grad(lambda params: jnp.square(some.apply(params, batch, train=True, key=key).logits).mean())
        )

    (plain, gradient), (value, other) = (loss(golden(name, remat=remat)[0])(model.params) for remat in (False, True))
    np.testing.assert_allclose(plain, value, rtol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), gradient, other)
    assert plain != jnp.square(run(model, batch).logits).mean()
    with pytest.raises(InputError, match="needs a key"):
        model.apply(model.params, batch, train=True)


@one_each
def test_bfloat16(name: str):
    model, batch, expected = golden(name)
    half = run(golden(name, dtype="bfloat16").model, batch, model.params)
    assert half.logits.dtype == jnp.float32
    assert {state.dtype for state in half.hidden_states} == {jnp.dtype("bfloat16")}
    target = batch["decoder_attention_mask"] == 1
    error = np.abs(np.asarray(half.logits) - expected["logits"])[target]
    assert error.mean() < 0.1 * np.abs(expected["logits"]).mean()


@every_case
def test_special_tokens_come_from_the_configuration(name: str):
    model, _, _ = golden(name)
    raw = raw_config(name)
    config = model.config
    assert (config.decoder_start_token, config.eos_token, config.pad_token) == (
        raw["decoder_start_token_id"],
        raw["eos_token_id"],
        raw["pad_token_id"],
    )


def test_what_a_decoder_cannot_read_is_refused():
    model, batch, _ = golden("encoder_decoder_bert")
    source = {"input_ids": batch["input_ids"]}
    with pytest.raises(InputError, match="expected a batch with decoder_input_ids"):
        model.apply(model.params, source)
    with pytest.raises(InputError, match="21 tokens long but the model has 20 positions"):
        model.apply(model.params, {**source, "decoder_input_ids": np.zeros((3, 21), np.int32)})
    with pytest.raises(InputError, match="expected a batch with input_ids"):
        model.apply(model.params, {"decoder_input_ids": batch["decoder_input_ids"]})


@pytest.mark.parametrize("name", ["t5_relu", "t5_gated"])
@pytest.mark.parametrize("task", ["classify", "regress", "features"])
def test_the_encoder_of_t5_alone(tmp_path: Path, name: str, task: str):
    labels = {"classify": ["bad", "fair", "good"], "regress": ["rating"]}.get(task)
    model = load_model(GOLDEN / name, task=task, labels=labels, seed=3)
    _, batch, expected = golden(name)
    outputs = run(model, {key: batch[key] for key in ("input_ids", "attention_mask")})
    mask = batch["attention_mask"][..., None]
    last = expected[f"encoder_hidden_{model.config.num_layers}"]
    close(outputs.features, (last * mask).sum(1) / mask.sum(1))
    assert (outputs.logits is None) if labels is None else (outputs.logits.shape == (3, len(labels)))
    assert model.config.cache_sizes is None
    assert not [path for path in leaf_paths(model.params) if path.startswith(("decoder", "lm_head"))]
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task=task)
    assert same(model, again)
    assert again.config == model.config
    raw = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert raw["architectures"] == ["T5EncoderModel"]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_exact_and_then_logarithmic(bidirectional: bool):
    relative = np.arange(-200, 200)
    found = np.asarray(buckets(jnp.asarray(relative), 32, 128, bidirectional))
    by_place = dict(zip(relative.tolist(), found.tolist(), strict=True))
    kinds, exact = (16, 8) if bidirectional else (32, 16)
    assert [by_place[-place] for place in range(exact + 1)] == list(range(exact + 1))
    assert by_place[-127] == by_place[-128] == by_place[-200] == kinds - 1
    # 8 + 8 log(r / 8) / log(16): 10 at r = 16 and 12 at r = 32; 16 + 16 log(r / 16) / log(8): 21 at r = 32, 26 at 64.
    known = {-16: 10, -32: 12, -64: 14} if bidirectional else {-32: 21, -64: 26}
    assert {place: by_place[place] for place in known} == known
    later = {by_place[place] for place in range(1, 200)}
    assert later == (set(range(17, 32)) if bidirectional else {0})


def test_t5_without_limits_of_length():
    model, _, _ = golden("t5_relu")
    ids = np.ones((1, 700), np.int32)
    shapes = jax.eval_shape(model.apply, model.params, {"input_ids": ids, "decoder_input_ids": ids})
    assert shapes.logits.shape == (1, 700, 74)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feed_forward_proj": "wide-relu"}, "feed_forward_proj"),
        ({"feed_forward_proj": "gated-swash"}, "feed_forward_proj must be one of"),
        ({"relative_attention_num_buckets": 5}, "an even relative_attention_num_buckets"),
        ({"relative_attention_max_distance": 6}, "relative_attention_max_distance above half"),
        ({"num_decoder_layers": 1}, r"no place in the model: decoder\.block\.1"),
        ({"tie_word_embeddings": False, "scale_decoder_outputs": False}, r"missing: lm_head\.weight"),
    ],
)
def test_a_damaged_t5_is_refused(tmp_path: Path, fields: dict, message: str):
    with pytest.raises(InputError, match=message):
        load_model(edited("t5_relu", tmp_path / "copy", **fields), task="seq2seq")


def test_copies_of_the_word_embeddings_are_not_parameters(tmp_path: Path):
    def change(arrays: Arrays) -> Arrays:
        names = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
        return arrays | {name: arrays["shared.weight"].copy() for name in names}

    directory = edited("t5_relu", tmp_path / "copy", change=change)
    assert same(load_model(directory, task="seq2seq"), golden("t5_relu")[0])


def test_parts_that_are_no_berts_are_refused(tmp_path: Path):
    raw = raw_config("encoder_decoder_bert")
    changes = {
        "whose encoder is a bert; got 'gpt2'": {"encoder": raw["encoder"] | {"model_type": "gpt2"}},
        "whose decoder is a bert; got None": {"decoder": None},
        "tied to its word embeddings": {"decoder": raw["decoder"] | {"tie_word_embeddings": False}},
        "no cross_attention_hidden_size": {"decoder": raw["decoder"] | {"cross_attention_hidden_size": 5}},
        "lacks decoder_start_token_id": {"decoder_start_token_id": None},
    }
    for index, (message, fields) in enumerate(changes.items()):
        directory = edited("encoder_decoder_bert", tmp_path / str(index), **fields)
        if "decoder_start_token_id" in fields:
            left = {key: value for key, value in raw.items() if key != "decoder_start_token_id"}
            (directory / "config.json").write_text(json.dumps(left))
        with pytest.raises(InputError, match=message):
            load_model(directory, task="seq2seq")


def test_a_warm_start_is_a_pretrained_bert_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        model = warm_start("minilm", seed=5)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "fresh, not pretrained (seed 5)" in message
    assert "decoder/layer_*/cross_attention/query" in message
    assert "lm_head/transform" in message
    assert "decoder/layer_*/attention" not in message

    source = load_model("minilm", task="features")
    leaves, pretrained = leaf_paths(model.params), leaf_paths(source.params)
    for path, array in pretrained.items():
        decoder = path.replace("embeddings/", "decoder_embeddings/", 1).replace("encoder/", "decoder/", 1)
        np.testing.assert_array_equal(leaves[path], array)
        np.testing.assert_array_equal(leaves[decoder], array)
    c, tokenizer = model.config, model.tokenizer
    assert (c.decoder_start_token, c.eos_token, c.pad_token) == (101, 102, 0)

    batch = dict(tokenizer(["a fine film"], return_tensors="np"))
    batch["decoder_input_ids"] = tokenizer(["a good one"], return_tensors="np")["input_ids"]
    logits = run(model, batch).logits
    assert logits.shape == (1, 5, c.vocab_size)
    assert np.isfinite(logits).all()
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task="seq2seq")
    assert same(model, again)
    assert again.config == c
    assert again.tokenizer.get_vocab() == tokenizer.get_vocab()


def test_other_seeds_start_otherwise():
    one, other = (leaf_paths(warm_start("minilm", seed=seed).params) for seed in (0, 1))
    assert {path for path in one if not np.array_equal(one[path], other[path])} == {
        path for path in one if path.endswith("kernel") and ("/cross_attention/" in path or path.startswith("lm_head/"))
    }


def test_what_no_warm_start_is_possible_from():
    with pytest.raises(InputError, match="a warm start is from a bert"):
        warm_start(GOLDEN / "gpt2_lm")
    with pytest.raises(InputError, match="a warm start needs a tokenizer"):
        warm_start(GOLDEN / "bert_pair")
    with pytest.raises(InputError, match="unknown model"):
        warm_start("minilm", "mini-lm")


def test_a_step_of_training_lowers_the_loss():
    model, batch, _ = golden("t5_gated")
    labels = np.where(batch["decoder_attention_mask"] == 1, np.roll(batch["decoder_input_ids"], -1, axis=1), -100)
    params = model.params
    loss = jax.jit(
        jax.value_and_grad(
            lambda params: (
                -jnp.where(
                    labels >= 0,
                    jnp.take_along_axis(
                        jax.nn.log_softmax(model.apply(params, batch).logits),
                        jnp.maximum(labels, 0)[..., None],
                        axis=-1,
                    )[..., 0],
                    0.0,
                ).sum()
            )
        )
    )
    before, gradient = loss(params)
    after, _ = loss(jax.tree.map(lambda leaf, slope: np.asarray(leaf) - np.float32(1e-4) * slope, params, gradient))
    assert after < before
    assert all(moves(gradient)), "every array matters"


def test_the_front_door_has_the_warm_start():
    assert ft.warm_start is warm_start
