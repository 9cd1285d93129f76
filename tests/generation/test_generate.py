"""Generation against transformers' greedy tokens, and the laws of the loop."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.generation import generate
from jaxft.generation.generate import default_stop_tokens
from jaxft.types import Model

GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/golden.npz") if "generated" in np.load(path).files)
SEQ2SEQ = ("t5", "encoder-decoder")


@functools.cache
def golden(name: str) -> tuple[Model, dict[str, np.ndarray], np.ndarray]:
    """A tiny model, its prompts and the tokens that transformers generated."""
    raw = json.loads((GOLDEN / name / "config.json").read_text())
    model = ft.load_model(GOLDEN / name, task="seq2seq" if raw["model_type"] in SEQ2SEQ else "lm")
    with np.load(GOLDEN / name / "golden.npz") as stored:
        ids, mask = ("prompt_ids", "prompt_mask") if "prompt_ids" in stored else ("input_ids", "attention_mask")
        return model, {"input_ids": stored[ids], "attention_mask": stored[mask]}, stored["generated"]


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_are_those_of_transformers(name: str):
    model, batch, expected = golden(name)
    found = generate(model, batch, max_new_tokens=expected.shape[1])
    for row, length in enumerate(found.lengths):
        np.testing.assert_array_equal(found.tokens[row, :length], expected[row, :length])
        assert (expected[row, length:] == expected[row, -1]).all(), "only padding follows"
    stops = json.loads((GOLDEN / name / "config.json").read_text()).get("eos_token_id")
    assert found.stopped.any() == (stops is not None and (expected == stops).any())


def test_padding_on_either_side_and_none_give_the_same_tokens():
    model, batch, _ = golden("llama_lm")
    together = generate(model, batch, max_new_tokens=6, stop_tokens=())
    right = {name: array[:, ::-1].copy() for name, array in batch.items()}
    lengths = batch["attention_mask"].sum(axis=1)
    for row, length in enumerate(lengths):
        ids = batch["input_ids"][row, -length:]
        right["input_ids"][row, :length], right["input_ids"][row, length:] = ids, 0
        alone = generate(model, {"input_ids": ids[None]}, max_new_tokens=6, stop_tokens=())
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])
    turned = generate(model, right, max_new_tokens=6, stop_tokens=())
    np.testing.assert_array_equal(turned.tokens, together.tokens)


@pytest.mark.parametrize("name", ["gpt2_lm", "t5_relu"])
def test_a_stop_token_ends_its_row_alone(name: str):
    model, batch, _ = golden(name)
    free = generate(model, batch, max_new_tokens=8, stop_tokens=())
    assert (free.lengths == 8).all()
    assert not free.stopped.any()
    stop = int(free.tokens[0, 3])
    held = generate(model, batch, max_new_tokens=8, stop_tokens=[stop, 10**6])
    for row, tokens in enumerate(free.tokens):
        places = np.flatnonzero(tokens == stop)
        length = places[0] + 1 if len(places) else 8
        assert held.lengths[row] == length
        assert held.stopped[row] == bool(len(places))
        np.testing.assert_array_equal(held.tokens[row, :length], tokens[:length])


def test_the_loop_is_traced_once_for_many_calls():
    model, batch, _ = golden("gpt2_lm")
    traces = 0

    def counted(params, inputs, **options):
        nonlocal traces
        traces += 1
        return model.apply(params, inputs, **options)

    counting = model._replace(apply=counted)
    for seed, temperature in enumerate((0.5, 1.0, 2.0)):
        generate(counting, batch, max_new_tokens=5, temperature=temperature, top_p=0.9, key=jax.random.key(seed))
    assert traces == 2, "once for the prompt and once for the body of the loop, whatever the floats"


def test_drawn_tokens_depend_on_the_key_alone():
    model, batch, _ = golden("llama_lm")
    draw = functools.partial(generate, model, batch, max_new_tokens=8, stop_tokens=())
    one, same = (draw(temperature=1.0, key=jax.random.key(1)).tokens for _ in range(2))
    other = draw(temperature=1.0, key=jax.random.key(2)).tokens
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    greedy = draw().tokens
    np.testing.assert_array_equal(draw(temperature=1.0, top_k=1, key=jax.random.key(3)).tokens, greedy)
    np.testing.assert_array_equal(draw(temperature=1e-4, key=jax.random.key(3)).tokens, greedy)


@pytest.mark.parametrize("name", ["llama_lm", "t5_gated"])
def test_low_rank_weights_generate_like_merged_ones(name: str):
    model, batch, _ = golden(name)
    adaptation = ft.lora("**/{query,value}/kernel", rank=2)
    frozen, delta = adaptation.init(jax.random.key(0), model.params)
    delta = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape), delta)
    bound = generate(model, batch, params=adaptation.bind(frozen, delta), max_new_tokens=6, stop_tokens=())
    merged = generate(model, batch, params=ft.merge(adaptation, frozen, delta), max_new_tokens=6, stop_tokens=())
    np.testing.assert_array_equal(bound.tokens, merged.tokens)
    plain = generate(model, batch, max_new_tokens=6, stop_tokens=())
    assert (plain.tokens != bound.tokens).any()


def test_half_precision_keeps_its_cache_in_it():
    model = ft.load_model(GOLDEN / "llama_lm", task="lm", dtype=jnp.bfloat16)
    _, batch, _ = golden("llama_lm")
    assert generate(model, batch, max_new_tokens=4).tokens.shape == (len(batch["input_ids"]), 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1 up; got 0"),
        ({"max_new_tokens": 40}, "the model has 40 positions: shorten"),
        ({"temperature": -1.0}, "temperature must be a number from 0 up"),
        ({"temperature": 1.0}, "give a key"),
        ({"top_k": 3}, "set a temperature above 0"),
        ({"temperature": 1.0, "top_k": 0, "key": 0}, "top_k must be a whole number from 1 up"),
        ({"temperature": 1.0, "top_p": 1.5, "key": 0}, "top_p must be above 0"),
    ],
)
def test_options_out_of_range(options, message):
    model, batch, _ = golden("llama_lm")
    with pytest.raises(ft.InputError, match=message):
        generate(model, batch, **options)


def test_prompts_and_models_that_do_not_fit():
    model, batch, _ = golden("llama_lm")
    mask = batch["attention_mask"].copy()
    mask[1] = 0
    with pytest.raises(ft.InputError, match=r"row 2 of the batch: its prompt has no token"):
        generate(model, batch | {"attention_mask": mask})
    with pytest.raises(ft.InputError, match="expected a batch with input_ids"):
        generate(model, {"pixels": np.zeros((1, 2))})
    with pytest.raises(ft.InputError, match="of one shape"):
        generate(model, batch | {"attention_mask": np.ones((1, 2))})
    with pytest.raises(ft.InputError, match='task="lm" or task="seq2seq"; this one is a bert with task=\'features\''):
        generate(ft.load_model(GOLDEN / "bert_gelu", task="features"), batch)


def test_padding_takes_no_positions():
    model, batch, _ = golden("llama_lm")
    longest = int(batch["attention_mask"].sum(axis=1).max())
    wide = {name: np.pad(array, ((0, 0), (30 - array.shape[1], 0))) for name, array in batch.items()}
    new = model.config.max_positions - longest
    narrow = generate(model, batch, max_new_tokens=new, stop_tokens=())
    np.testing.assert_array_equal(generate(model, wide, max_new_tokens=new, stop_tokens=()).tokens, narrow.tokens)
    with pytest.raises(ft.InputError, match=f"the prompt has {longest} tokens and {new + 1} more"):
        generate(model, wide, max_new_tokens=new + 1)


def test_a_decoder_behind_an_encoder_has_its_own_positions():
    model, batch, _ = golden("encoder_decoder_sizes")
    most = model.config.max_target_positions
    assert most != model.config.max_positions
    assert (generate(model, batch, max_new_tokens=most, stop_tokens=()).lengths == most).all()
    with pytest.raises(ft.InputError, match=f"the decoder has {most} positions: lower max_new_tokens"):
        generate(model, batch, max_new_tokens=most + 1)
    long = np.ones((1, model.config.max_positions + 1), np.int32)
    with pytest.raises(ft.InputError, match=f"but the model has {model.config.max_positions} positions: shorten it"):
        generate(model, {"input_ids": long}, max_new_tokens=2)


@pytest.mark.parametrize("name", ["llama_lm", "t5_gated"])
def test_stop_tokens_are_those_of_the_generation_configuration(name: str, tmp_path: Path):
    shutil.copytree(GOLDEN / name, tmp_path / "copy")
    (tmp_path / "copy" / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    model = ft.load_model(tmp_path / "copy", task=golden(name)[0].config.task)
    assert default_stop_tokens(model) == (7, 9)
    ft.save_model(model, tmp_path / "saved")
    assert default_stop_tokens(ft.load_model(tmp_path / "saved", task=model.config.task)) == (7, 9)


WRONG = {
    "tokens": ({"max_new_tokens": 2.5}, "whole number from 1 up; got 2.5"),
    "top_k": ({"top_k": 2.5, "temperature": 1.0}, "top_k must be a whole number"),
    "key": ({"key": 0, "temperature": 1.0}, r"a key of jax\.random"),
    "rows": ({"batch": {"input_ids": np.zeros((0, 3), np.int32)}}, "has no rows"),
    "word": ({"batch": {"input_ids": np.array([[5, 9999]])}}, "holds the token 9999, but the model has tokens 0 to"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_and_tokens_are_refused(name):
    options, message = WRONG[name]
    model, _, _ = golden("gpt2_lm")
    with pytest.raises(ft.InputError, match=message):
        ft.generate(model, **({"batch": {"input_ids": np.array([[5, 6]])}, "max_new_tokens": 2} | options))


@pytest.mark.parametrize("name", ["gpt2_lm", "t5_gated"])
@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "drawn"])
def test_logits_that_are_nan_write_nothing(name, sampled):
    model, _, _ = golden(name)
    spoilt = jax.tree.map(lambda leaf: leaf * jnp.nan, model.params)
    options = {"temperature": 1.0, "key": jax.random.key(0)} if sampled else {}
    with pytest.raises(ft.InputError, match="logits are NaN in row 1 of the batch"):
        ft.generate(model, {"input_ids": np.array([[5, 6]])}, params=spoilt, max_new_tokens=2, **options)


def test_texts_need_a_tokenizer(tmp_path: Path):
    shutil.copytree(GOLDEN / "llama_lm", tmp_path / "copy")
    model = ft.load_model(tmp_path / "copy", task="lm")
    with pytest.raises(ft.InputError, match="without tokenizer files"):
        ft.complete(model, ["hello"])
    with pytest.raises(ft.InputError, match="no chat template"):
        ft.reply(model, [[{"role": "user", "content": "hello"}]])
