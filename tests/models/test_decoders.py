"""Decoders: padding on both sides, caches, packed documents, and what their files may say."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.errors import InputError
from jaxft.files import fetch
from jaxft.models import load_model, save_model
from jaxft.models.cache import empty_cache
from jaxft.types import Model
from tests.models.golden import DECODERS, GOLDEN, TASKS, Arrays, edited, finite, golden, run, same

LM = [name for name in DECODERS if TASKS[name] == "lm"]


def close(found, expected, message: str = "", *, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol, err_msg=message)


every_case = pytest.mark.parametrize("name", DECODERS)
every_lm = pytest.mark.parametrize("name", LM)
one_each = pytest.mark.parametrize(
    "name", ["gpt1_lm", "gpt2_lm", "llama_untied", "mistral_lm", "qwen2_window", "qwen3_lm"]
)


@every_case
def test_padding_does_not_change_what_is_computed(name: str):
    model, batch, expected = golden(name)
    rows, length = batch["input_ids"].shape
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (rows + 2, length + 4)).astype(np.int32)
    real = np.pad(batch["attention_mask"], ((0, 2), (2, 2)))
    ids[:rows, 2:-2] = np.where(batch["attention_mask"], batch["input_ids"], ids[:rows, 2:-2])
    outputs = run(model, {"input_ids": ids, "attention_mask": real})
    logits, theirs = outputs.logits[:rows], expected["logits"]
    if model.config.task == "lm":
        logits, theirs = outputs.logits[real == 1], theirs[batch["attention_mask"] == 1]
    close(logits, theirs, atol=3e-5)
    assert finite(outputs), "rows of padding only stay finite"


@every_lm
def test_the_cache_computes_what_the_whole_row_does(name: str):
    model, batch, expected = golden(name)
    cache = empty_cache(model.config.cache_sizes, len(batch["input_ids"]), 13)
    apply, found = jax.jit(model.apply), []
    for start, stop in ((0, 4), (4, 5), (5, 6), (6, 10), (10, 11)):
        outputs = apply(model.params, {key: array[:, start:stop] for key, array in batch.items()} | {"cache": cache})
        cache = outputs.cache
        found.append(outputs.logits)
    real = batch["attention_mask"] == 1
    close(jnp.concatenate(found, axis=1)[real], expected["logits"][real], atol=3e-5)
    assert cache.place == 11
    np.testing.assert_array_equal(cache.visible, np.pad(real, ((0, 0), (0, 2))))


@every_lm
def test_greedy_tokens_equal_hugging_faces(name: str):
    model, _, expected = golden(name)
    ids, mask, tokens = (jnp.asarray(expected[key]) for key in ("prompt_ids", "prompt_mask", "generated"))
    stop, padding = (model.config.raw.get(key) for key in ("eos_token_id", "pad_token_id"))
    apply, done = jax.jit(model.apply), np.zeros(len(ids), bool)
    cache = empty_cache(model.config.cache_sizes, len(ids), ids.shape[1] + tokens.shape[1])
    for step in range(tokens.shape[1]):
        outputs = apply(model.params, {"input_ids": ids, "attention_mask": mask, "cache": cache})
        token, cache = np.where(done, padding, outputs.logits[:, -1].argmax(-1)), outputs.cache
        np.testing.assert_array_equal(token, tokens[:, step], err_msg=f"step {step}")
        done |= token == stop
        ids, mask = jnp.asarray(token)[:, None], jnp.ones((len(ids), 1), jnp.int32)


@every_lm
def test_packed_documents_do_not_see_each_other(name: str):
    model, vocabulary, sizes = golden(name).model, golden(name).model.config.vocab_size, (5, 3, 6)
    rows = [np.random.default_rng(size).integers(0, vocabulary, (2, size)).astype(np.int32) for size in sizes]
    segments = np.repeat([[1, 2, 3, 0]], 2, axis=0).repeat([*sizes, 2], axis=1).astype(np.int32)
    ids = np.concatenate([*rows, np.zeros((2, 2), np.int32)], axis=1)
    packed = run(model, {"input_ids": ids, "attention_mask": (segments > 0).astype(np.int32), "segment_ids": segments})
    alone = np.stack([np.pad(row, ((0, 0), (0, 6 - row.shape[1]))) for row in rows])
    real = np.repeat(np.arange(6)[None] < np.array(sizes)[:, None], 2, axis=0).astype(np.int32)
    logits = run(model, {"input_ids": alone.reshape(6, 6), "attention_mask": real}).logits.reshape(3, 2, 6, -1)
    for number, size in enumerate(sizes):
        place = segments[0] == number + 1
        close(packed.logits[:, place], logits[number, :, :size], f"document {number + 1}", atol=3e-5)


@one_each
@pytest.mark.parametrize("task", ["classify", "regress", "features", "tag"])
def test_every_task_and_pooling_goes_through_files(tmp_path: Path, name: str, task: str):
    labels = {"classify": ["bad", "fair"], "regress": ["rating"], "tag": ["O", "B", "I"]}.get(task)
    for pooling in (None,) if task == "tag" else ("last", "mean"):
        model = load_model(GOLDEN / name, task=task, labels=labels, pooling=pooling)
        save_model(model, tmp_path / str(pooling))
        again = load_model(tmp_path / str(pooling), task=task)
        assert same(model, again)
        assert again.config == model.config
        shapes = jax.eval_shape(model.apply, model.params, {"input_ids": np.ones((2, 6), np.int32)})
        expected = {"classify": (2, 2), "regress": (2, 1), "tag": (2, 6, 3), "features": None}[task]
        assert (shapes.logits if expected is None else shapes.logits.shape) == expected
        assert (shapes.features is None) == (task == "tag")


@pytest.mark.parametrize("name", ["gpt1_lm", "smollm"])
def test_a_classifier_gives_the_next_token_too(name: str):
    lm, batch, expected = golden(name)
    model = load_model(GOLDEN / name, task="classify", num_labels=2)
    real = batch["attention_mask"] == 1
    close(run(model, batch).token_logits[real], expected["logits"][real])
    assert run(lm, batch).token_logits is None
    untied = load_model(GOLDEN / "llama_untied", task="classify", num_labels=2)
    assert run(untied, batch).token_logits is None


def test_an_untied_head_is_a_parameter_and_a_tied_one_is_not():
    assert golden("llama_untied")[0].params["lm_head"]["kernel"].shape == (28, 67)
    assert "lm_head" not in golden("llama_lm")[0].params
    assert "norm" in golden("llama_lm")[0].params["decoder"]
    assert "norm" not in golden("gpt1_lm")[0].params["decoder"]


def test_remat_and_bfloat16_keep_the_values():
    model, batch, expected = golden("qwen3_lm", remat=True)
    real = batch["attention_mask"] == 1
    gradient = jax.grad(lambda params: model.apply(params, batch).logits.sum())
    assert "remat" in str(jax.make_jaxpr(gradient)(model.params))
    close(run(model, batch).logits[real], expected["logits"][real])
    narrow, _, _ = golden("qwen3_lm", dtype="bfloat16")
    outputs = run(narrow, batch)
    assert outputs.logits.dtype == jnp.float32
    assert outputs.hidden_states[1].dtype == jnp.bfloat16
    assert np.abs(outputs.logits - expected["logits"])[real].max() < 0.05 * np.abs(expected["logits"]).max()


def test_dropout_follows_the_key():
    model, batch, _ = golden("gpt1_lm")
    train = jax.jit(partial(model.apply, train=True))
    one, again, other = (train(model.params, batch, key=jax.random.key(seed)).logits for seed in (0, 0, 1))
    assert (one == again).all()
    assert (one != other).any()


# Files that say something else.


REFUSED = {
    "cross-attention": ("gpt2_lm", {"add_cross_attention": True}, "add_cross_attention"),
    "heads": ("gpt2_lm", {"n_head": 7}, "n_embd 24 is not a multiple of n_head 7"),
    "afn": ("gpt1_lm", {"afn": "mish"}, "afn must be one of"),
    "rotary": ("llama_lm", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
    "rotary factor": ("llama_lm", {"rope_scaling": {"rope_type": "linear", "factor": 0.0}}, "factor of .* got 0.0"),
    "rotary part": ("llama_lm", {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "lacks 'low_freq_factor'"),
    "rotary object": ("llama_lm", {"rope_parameters": "linear"}, "an object with rope_theta; got 'linear'"),
    "rotary base": ("llama_lm", {"rope_parameters": {"rope_theta": "big"}}, "a number above 0; got 'big'"),
    "part": ("llama_lm", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "odd": ("qwen3_lm", {"head_dim": 9}, "head_dim 9 is odd"),
    "groups": (
        "llama_lm",
        {"num_key_value_heads": 4},
        "num_attention_heads 6 is not a multiple of num_key_value_heads 4",
    ),
    "kinds": ("qwen2_window", {"layer_types": ["chunked_attention"] * 3}, "chunked_attention"),
    "count": ("qwen2_window", {"layer_types": ["full_attention"]}, "must name 3 layers"),
    "window": ("mistral_lm", {"sliding_window": 0}, "sliding_window"),
    "experts": ("mistral_lm", {"model_type": "mixtral"}, "mixtral"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_built_is_refused(tmp_path: Path, what: str):
    name, fields, message = REFUSED[what]
    with pytest.raises(InputError, match=message):
        load_model(edited(name, tmp_path / "edited", **fields), task="lm")


def test_a_window_turned_off_sees_all(tmp_path: Path):
    directory = edited("mistral_lm", tmp_path / "all", sliding_window=None)
    assert load_model(directory, task="lm").config.windows == (None,) * 3
    assert golden("mistral_lm")[0].config.windows == (4,) * 3
    assert golden("qwen2_window")[0].config.windows == (None, 3, 3)
    by_count = edited("qwen2_window", tmp_path / "count", layer_types=None)
    assert load_model(by_count, task="lm").config.windows == (None, 3, 3)


def test_masks_and_tied_copies_in_old_files_are_left_alone(tmp_path: Path):
    def age(arrays: Arrays) -> Arrays:
        plain = {name.removeprefix("transformer."): array for name, array in arrays.items()}
        masks = {"h.0.attn.bias": np.ones((1, 1, 24, 24), np.float32), "h.0.attn.masked_bias": np.float32([-1e4])}
        return plain | masks | {"lm_head.weight": plain["wte.weight"].copy()}

    old = edited("gpt2_lm", tmp_path / "old", change=age, n_positions=None, n_ctx=24)
    assert same(load_model(old, task="lm"), golden("gpt2_lm")[0])


def test_a_missing_untied_head_is_named(tmp_path: Path):
    def drop(arrays: Arrays) -> Arrays:
        return {name: array for name, array in arrays.items() if name != "lm_head.weight"}

    directory = edited("llama_untied", tmp_path / "headless", change=drop)
    with pytest.raises(InputError, match=r"missing: lm_head\.weight"):
        load_model(directory, task="lm")
    assert load_model(directory, task="features").config.pooling == "last"


def test_tasks_of_encoders_are_refused():
    with pytest.raises(InputError, match="spans"):
        load_model(GOLDEN / "gpt2_lm", task="spans")


# The packaged model.


@pytest.fixture(scope="module")
def smollm2() -> Model:
    return load_model("smollm2", task="lm")


def test_smollm2_knows_the_capital_of_france(smollm2: Model):
    prompt = dict(smollm2.tokenizer(["The capital of France is"], return_tensors="np"))
    assert smollm2.tokenizer.decode(int(run(smollm2, prompt).logits[0, -1].argmax())) == " Paris"


def test_several_gguf_files_are_no_model(tmp_path: Path):
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / name).symlink_to(next(fetch("smollm2").glob("*.gguf")))
    with pytest.raises(InputError, match="several GGUF files"):
        load_model(tmp_path, task="lm")


@pytest.mark.slow
def test_a_gguf_file_its_directory_and_a_saved_model_are_one(tmp_path: Path, smollm2: Model):
    file = next(fetch("smollm2").glob("*.gguf"))
    assert load_model(file, task="features").config.pooling == "last"
    save_model(smollm2, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task="lm")
    assert same(smollm2, again)
    text = "Hello, wide world! 2024"
    assert again.tokenizer(text)["input_ids"] == smollm2.tokenizer(text)["input_ids"]
    assert again.tokenizer.chat_template == smollm2.tokenizer.chat_template
