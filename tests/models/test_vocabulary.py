"""New tokens: the rows they get, what stays as it was, and how they are saved."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from jaxft.adapt import lora
from jaxft.errors import InputError
from jaxft.models import extend_vocabulary, load_model, save_model, warm_start
from jaxft.trees import leaf_paths
from jaxft.types import Model, Outputs

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = {
    "bert_gelu": "features",
    "gpt1_lm": "lm",
    "gpt2_lm": "lm",
    "gpt2_classify": "classify",
    "llama_untied": "lm",
    "roberta_classify": "classify",
    "t5_relu": "seq2seq",
    "t5_gated": "seq2seq",
}
NEW = ["<start>", "<between>", "<extract>"]


def golden(name: str, spare: int = 0) -> Model:
    """A small model with a tokenizer of words, some rows of the embedding to spare."""
    model = load_model(GOLDEN / name, task=CASES[name])
    words = {f"w{index}": index for index in range(model.config.vocab_size - spare)}
    tokens = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return model._replace(tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="w0"))


def run(model: Model, ids) -> Outputs:
    batch = {"input_ids": jnp.asarray(ids), "attention_mask": jnp.ones_like(jnp.asarray(ids))}
    if model.config.task == "seq2seq":
        batch |= {"decoder_input_ids": batch["input_ids"]}
    return jax.jit(model.apply)(model.params, batch)


@pytest.mark.parametrize("name", CASES)
def test_known_tokens_mean_what_they_meant(name):
    model = golden(name)
    size = model.config.vocab_size
    larger = extend_vocabulary(model, NEW)
    assert larger.config.vocab_size == len(larger.tokenizer) == size + 3
    assert (model.config.vocab_size, len(model.tokenizer)) == (size, size), "the model given stays as it was"
    before, after = run(model, [[3, 5, 9]]), run(larger, [[3, 5, 9]])
    for one, other in zip(before.hidden_states, after.hidden_states, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
    for one, other in ((before.logits, after.logits), (before.token_logits, after.token_logits)):
        if one is not None:
            assert other.shape[-1] == one.shape[-1] + 3 * (one.shape[-1] == size)
            np.testing.assert_allclose(other[..., : one.shape[-1]], one, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_each_new_token_is_read_and_predicted_through_a_row_of_its_own(name):
    larger = extend_vocabulary(golden(name), NEW)
    ids = np.array(larger.tokenizer.convert_tokens_to_ids(NEW))
    assert larger.tokenizer(" ".join(["w3", *NEW, "w4"]))["input_ids"] == [3, *ids, 4]
    outputs = [run(larger, [[3, token, token]]).hidden_states[0] for token in (*ids, 3)]
    assert len({np.asarray(output).tobytes() for output in outputs}) == 4
    rows = [leaf for path, leaf in leaf_paths(larger.params).items() if path.endswith("word/embedding")]
    rows += [leaf.T for path, leaf in leaf_paths(larger.params).items() if path == "lm_head/kernel"]
    assert rows
    for table in rows:
        away = np.asarray(table[ids] - table[: ids[0]].mean(axis=0))
        assert 0.5 < away.std() / larger.config.initializer_range < 2, "noise about the mean of the others"


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_knows_its_new_tokens(name, tmp_path):
    larger = extend_vocabulary(golden(name), NEW)
    save_model(larger, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task=CASES[name])
    assert again.config.vocab_size == larger.config.vocab_size
    assert again.tokenizer.convert_tokens_to_ids(NEW) == larger.tokenizer.convert_tokens_to_ids(NEW)
    ids = again.tokenizer(f"w3 {NEW[0]} w4")["input_ids"]
    assert again.tokenizer.decode(ids, skip_special_tokens=True).split() == ["w3", "w4"]
    ours, theirs = leaf_paths(larger.params), leaf_paths(again.params)
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_array_equal(theirs[path], ours[path], err_msg=path)


def test_rows_beyond_the_tokenizer_are_used_first():
    model = golden("gpt2_lm", spare=2)
    size = model.config.vocab_size
    two, three = extend_vocabulary(model, NEW[:2]), extend_vocabulary(model, NEW)
    assert (two.config.vocab_size, three.config.vocab_size) == (size, size + 1)
    old = model.params["embeddings"]["word"]["embedding"]
    for larger in (two, three):
        table = larger.params["embeddings"]["word"]["embedding"]
        np.testing.assert_array_equal(table[: size - 2], old[: size - 2])
        assert not np.isclose(table[size - 2 : size], old[size - 2 :]).all(axis=1).any()
    one = extend_vocabulary(model, NEW[:1]).params["embeddings"]["word"]["embedding"]
    np.testing.assert_array_equal(one[size - 1], old[size - 1])


def test_both_parts_of_a_warm_start_get_the_tokens(tmp_path):
    model = extend_vocabulary(warm_start("minilm"), NEW)
    leaves = leaf_paths(model.params)
    for path in ("embeddings/word/embedding", "decoder_embeddings/word/embedding", "lm_head/bias"):
        assert leaves[path].shape[0] == len(model.tokenizer) == 30525, path
    assert {model.config.encoder.vocab_size, model.config.decoder.vocab_size, model.config.vocab_size} == {30525}
    assert run(model, [[101, 30522, 30524, 102]]).logits.shape == (1, 4, 30525)


def test_the_seed_gives_the_rows():
    model = golden("llama_untied")
    tables = [extend_vocabulary(model, NEW, seed=seed).params["lm_head"]["kernel"] for seed in (0, 0, 1)]
    assert (tables[0] == tables[1]).all()
    assert not (tables[0] == tables[2])[:, -3:].any()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "list of new tokens"),
        ("<start>", "list of new tokens"),
        (["<start>", " "], "not blank"),
        ([3], "not blank"),
        (["<start>", "<start>"], "named twice"),
        (["w7"], "known already, as id 7"),
    ],
)
def test_what_is_no_new_token_is_refused(tokens, message):
    with pytest.raises(InputError, match=message):
        extend_vocabulary(golden("gpt2_lm"), tokens)


def test_a_model_that_cannot_be_extended_is_refused():
    model = golden("gpt2_lm")
    with pytest.raises(InputError, match="without tokenizer"):
        extend_vocabulary(model._replace(tokenizer=None), NEW)
    adaptation = lora("**/query/kernel", rank=2)
    adapted = adaptation.bind(*adaptation.init(jax.random.key(0), model.params))
    with pytest.raises(InputError, match="merge first"):
        extend_vocabulary(model._replace(params=adapted), NEW)
    parts = load_model(GOLDEN / "encoder_decoder_bert", task="seq2seq")._replace(tokenizer=model.tokenizer)
    with pytest.raises(InputError, match="different sizes"):
        extend_vocabulary(parts, NEW)
    with pytest.raises(InputError, match="models of texts"):
        extend_vocabulary(load_model(GOLDEN / "vit_features", task="features"), NEW)
