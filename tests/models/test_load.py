"""Hugging Face directories in and out, and everything that can be wrong with one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from jaxft.errors import InputError
from jaxft.models import load_model, save_model
from jaxft.trees import leaf_paths
from jaxft.types import Model
from tests.models.golden import GOLDEN

SOURCE = Path(__file__).parent.parent / "golden" / "bert_gelu"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of a small model that a test may damage."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(SOURCE / name, copy / name)
    return copy


def edit_config(directory: Path, **changes) -> None:
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | changes))


def edit_weights(directory: Path, change) -> None:
    arrays = load_file(directory / "model.safetensors")
    change(arrays)
    save_file(arrays, directory / "model.safetensors")


def same(one: Model, other: Model) -> bool:
    leaves, others = leaf_paths(one.params), leaf_paths(other.params)
    return leaves.keys() == others.keys() and all((leaves[path] == others[path]).all() for path in leaves)


def test_paths_are_the_ones_promised():
    model = load_model(SOURCE, task="classify", pooling="cls")
    paths = leaf_paths(model.params)
    layer = [path.removeprefix("encoder/layer_2/") for path in paths if path.startswith("encoder/layer_2/")]
    dense = ["attention/query", "attention/key", "attention/value", "attention/output", "feed_forward/up"]
    dense += ["feed_forward/down"]
    norms = ["attention/norm", "feed_forward/norm"]
    assert sorted(layer) == sorted(
        [f"{name}/{leaf}" for name in dense for leaf in ("kernel", "bias")]
        + [f"{name}/{leaf}" for name in norms for leaf in ("scale", "bias")]
    )
    outside = {path for path in paths if not path.startswith("encoder/")}
    assert outside == {
        *(f"embeddings/{name}/embedding" for name in ("word", "position", "token_type")),
        *("embeddings/norm/scale", "embeddings/norm/bias"),
        *("pooler/kernel", "pooler/bias", "head/kernel", "head/bias"),
    }
    assert paths["encoder/layer_0/feed_forward/up/kernel"].shape == (24, 52)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(
    ("task", "labels"), [("classify", ["bad", "fair", "good"]), ("regress", ["rating"]), ("features", None)]
)
def test_saved_and_loaded_is_the_same(tmp_path: Path, pooling: str, task: str, labels: list[str] | None):
    model = load_model(SOURCE, task=task, labels=labels, pooling=pooling, seed=5)
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task=task)
    assert same(model, again)
    assert again.config == model.config
    assert again.config.pooling == pooling
    assert again.config.labels == tuple(labels or ())
    save_model(again, tmp_path / "twice")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_a_saved_classifier_has_hugging_faces_names(tmp_path: Path):
    save_model(load_model(SOURCE, task="classify"), tmp_path / "cls")
    saved, source = load_file(tmp_path / "cls" / "model.safetensors"), load_file(SOURCE / "model.safetensors")
    assert saved.keys() == source.keys()
    assert all((saved[name] == source[name]).all() for name in source)
    raw = json.loads((tmp_path / "cls" / "config.json").read_text())
    assert raw["architectures"] == ["BertForSequenceClassification"]
    assert raw["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert raw["problem_type"] == "single_label_classification"
    save_model(load_model(SOURCE, task="classify", pooling="mean", num_labels=2), tmp_path / "mean")
    names = load_file(tmp_path / "mean" / "model.safetensors").keys()
    assert {"classifier.weight", "classifier.bias", "embeddings.word_embeddings.weight"} <= names
    assert json.loads((tmp_path / "mean" / "config.json").read_text())["architectures"] == ["BertModel"]


def test_minilm_keeps_its_tokenizer(tmp_path: Path):
    model = load_model("minilm", task="classify", num_labels=2)
    save_model(model, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task="classify")
    text = ["An unaffable, naïve film!", "好"]
    assert again.tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]
    assert same(model, again)


def test_shards_are_one_model(directory: Path):
    arrays = load_file(directory / "model.safetensors")
    names = sorted(arrays)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: arrays[name] for name in held}, directory / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "model.safetensors").unlink()
    assert same(load_model(directory, task="classify"), load_model(SOURCE, task="classify"))
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"not in .*: model-00002-of-00002.safetensors"):
        load_model(directory, task="classify")


def test_a_shard_outside_the_directory_is_refused(directory: Path):
    shutil.move(directory / "model.safetensors", directory.parent / "elsewhere.safetensors")
    index = {"weight_map": {"x": "../elsewhere.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"\.\./elsewhere"):
        load_model(directory, task="classify")


def test_an_index_that_names_no_files_is_refused(directory: Path):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": 3}}))
    with pytest.raises(InputError, match="is not a safetensors index"):
        load_model(directory, task="classify")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_files_become_float32_params(directory: Path, dtype: str):
    from safetensors.flax import save_file as save

    arrays = {name: jnp.asarray(array, dtype) for name, array in load_file(directory / "model.safetensors").items()}
    save(arrays, str(directory / "model.safetensors"))
    model = load_model(directory, task="classify")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(model.params["head"]["bias"], np.float32(arrays["classifier.bias"]))


def test_names_and_arrays_of_old_files_are_understood(directory: Path):
    def age(arrays: dict[str, np.ndarray]) -> None:
        for name in [name for name in arrays if "LayerNorm" in name]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            arrays[old] = arrays.pop(name)
        arrays["bert.embeddings.position_ids"] = np.arange(20)[None]
        arrays["cls.predictions.bias"] = np.zeros(97, np.float32)

    edit_weights(directory, age)
    assert same(load_model(directory, task="classify"), load_model(SOURCE, task="classify"))


def test_a_fresh_head_is_named_and_follows_the_seed(directory: Path, caplog: pytest.LogCaptureFixture):
    load_model(directory, task="classify")
    assert caplog.text == ""
    first, again, other = (
        load_model(directory, task="classify", num_labels=4, pooling="mean", seed=s) for s in (0, 0, 1)
    )
    assert caplog.text.count("fresh, not pretrained") == 3
    assert "head" in caplog.text
    assert same(first, again)
    assert (first.params["head"]["kernel"] != other.params["head"]["kernel"]).any()
    assert first.config.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_a_head_for_something_else_is_not_reused(directory: Path, caplog: pytest.LogCaptureFixture):
    trained = load_model(directory, task="classify").params["head"]["kernel"]
    for options in (
        {"task": "classify", "pooling": "mean"},
        {"task": "regress", "num_labels": 3},
        {"task": "classify", "num_labels": 2},
    ):
        caplog.clear()
        fresh = load_model(directory, **options).params["head"]["kernel"]
        assert fresh.shape != trained.shape or (fresh != trained).any()
        assert "fresh, not pretrained (seed 0): head" in caplog.text


def test_the_outputs_of_a_head_follow_the_labels(directory: Path):
    batch = {"input_ids": np.array([[2, 5, 7]])}
    model = load_model(directory, task="classify")
    turned = load_model(directory, task="classify", labels=["LABEL_1", "LABEL_2", "LABEL_0"])
    expected = model.apply(model.params, batch).logits[:, [1, 2, 0]]
    np.testing.assert_array_equal(turned.apply(turned.params, batch).logits, expected)
    renamed = load_model(directory, task="classify", labels=["a", "b", "c"])
    assert same(renamed, model)


def test_labels_are_in_the_order_of_their_numbers(directory: Path):
    edit_config(directory, id2label={"2": "good", "0": "bad", "1": "fair"})
    assert load_model(directory, task="classify").config.labels == ("bad", "fair", "good")


def test_a_head_of_one_output_that_says_nothing_is_a_regression(directory: Path, caplog: pytest.LogCaptureFixture):
    def narrow(arrays: dict[str, np.ndarray]) -> None:
        for name in ("classifier.weight", "classifier.bias"):
            arrays[name] = arrays[name][:1]

    edit_weights(directory, narrow)
    edit_config(directory, id2label={"0": "LABEL_0"}, problem_type=None)
    model = load_model(directory, task="regress")
    assert caplog.text == ""
    np.testing.assert_array_equal(
        model.params["head"]["kernel"], load_file(directory / "model.safetensors")["classifier.weight"].T
    )


# What is wrong with a directory, and what is said about it.


def test_a_head_that_is_not_what_its_config_says(directory: Path):
    edit_config(directory, id2label={"0": "bad", "1": "good"})
    with pytest.raises(InputError, match=r"classifier.weight \(head/kernel\) is \[3, 24\], expected \[2, 24\]"):
        load_model(directory, task="classify")


def test_missing_and_misshaped_arrays_are_all_listed(directory: Path):
    def damage(arrays: dict[str, np.ndarray]) -> None:
        del arrays["bert.encoder.layer.0.intermediate.dense.weight"]
        del arrays["bert.embeddings.LayerNorm.bias"]
        arrays["bert.embeddings.word_embeddings.weight"] = np.zeros((90, 24), np.float32)

    edit_weights(directory, damage)
    with pytest.raises(InputError) as caught:
        load_model(directory, task="classify")
    for part in (
        "encoder.layer.0.intermediate.dense.weight",
        "embeddings.LayerNorm.bias",
        "[90, 24], expected [97, 24]",
    ):
        assert part in str(caught.value)


def test_half_a_head_is_none(directory: Path):
    edit_weights(directory, lambda arrays: arrays.pop("classifier.bias"))
    with pytest.raises(InputError, match=r"missing: classifier\.bias"):
        load_model(directory, task="classify")
    load_model(directory, task="classify", num_labels=2)


def test_the_default_labels_of_a_language_model_are_no_head(directory: Path):
    edit_config(directory, architectures=["BertForMaskedLM"], id2label={"0": "LABEL_0"})
    with pytest.raises(InputError, match="does not come with a head"):
        load_model(directory, task="classify")
    assert load_model(directory, task="classify", num_labels=2).config.labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("keep", [0, 5, 200, 30_000])
def test_truncated_weights(directory: Path, keep: int):
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match="damaged or truncated"):
        load_model(directory, task="classify")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt"])
def test_a_pickle_is_refused_with_the_reason(directory: Path, name: str):
    (directory / "model.safetensors").rename(directory / name)
    with pytest.raises(InputError, match=f"only as {name}: a pickle can run any code"):
        load_model(directory, task="classify")


def test_no_weights_at_all(directory: Path):
    (directory / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no model.safetensors"):
        load_model(directory, task="classify")


@pytest.mark.parametrize(
    ("text", "message"), [(None, "holds no config.json"), ("{", "not valid JSON"), ("[]", "object")]
)
def test_a_config_that_cannot_be_read(directory: Path, text: str | None, message: str):
    (directory / "config.json").unlink()
    if text is not None:
        (directory / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_model(directory, task="classify")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": ["bert"]}, r"model_type is one of bert, .*; got \['bert'\]"),
        ({"model_type": "robberta"}, "model_type is one of bert, .*; got 'robberta' .*nearest: roberta"),
        ({"position_embedding_type": "relative_key"}, "absolute position embeddings"),
        ({"is_decoder": True}, "decoder"),
        ({"hidden_act": "gelu_fast"}, "hidden_act must be one of .*nearest"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"num_attention_heads": 0}, "num_attention_heads in config.json must be a whole number from 1 up; got 0"),
        ({"hidden_size": "24"}, "hidden_size in config.json must be a whole number from 1 up; got '24'"),
        ({"max_position_embeddings": None}, "max_position_embeddings in config.json must be a whole number"),
        ({"type_vocab_size": 0}, "type_vocab_size in config.json must be a whole number"),
        ({"layer_norm_eps": None}, "layer_norm_eps in config.json must be a number from 0 up; got None"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob in config.json must be a number"),
        ({"id2label": {"bad": 0, "good": 1}}, "keys of id2label in config.json must be whole numbers"),
    ],
)
def test_an_unsupported_architecture(directory: Path, changes: dict[str, object], message: str):
    edit_config(directory, **changes)
    with pytest.raises(InputError, match=message):
        load_model(directory, task="classify")


def test_an_incomplete_config(directory: Path):
    raw = json.loads((directory / "config.json").read_text())
    del raw["hidden_size"]
    (directory / "config.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match="lacks hidden_size"):
        load_model(directory, task="classify")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "clasify", "num_labels": 2}, r"task must be one of .*nearest: classify"),
        ({"task": "classify", "pooling": "max"}, "pooling must be one of mean, cls"),
        ({"task": "features", "num_labels": 2}, "has no head"),
        ({"task": "classify", "num_labels": 3, "labels": ["a", "b"]}, "num_labels is 3 but 2 labels"),
        ({"task": "classify", "labels": ["a", "a"]}, "differ"),
        ({"task": "classify", "num_labels": 0}, "needs num_labels"),
        ({"task": "classify", "dtype": "float61"}, "dtype must be a floating-point type .*; got 'float61'"),
        ({"task": "classify", "dtype": "int32"}, "dtype must be a floating-point type .*; got 'int32'"),
    ],
)
def test_a_request_that_contradicts_itself(options: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        load_model(SOURCE, **options)


def test_one_rate_for_every_dropout_and_the_files_keep_theirs(directory: Path, tmp_path: Path):
    model = load_model(directory, task="classify", dropout=0.0)
    assert set(model.config.dropouts) == {0.0}
    assert set(load_model(directory, task="classify", dropout=0.3).config.dropouts) == {0.3}
    model.apply(model.params, {"input_ids": np.ones((1, 3), np.int32), "attention_mask": np.ones((1, 3))}, train=True)
    save_model(model, tmp_path / "copy")
    assert 0.1 in load_model(tmp_path / "copy", task="classify").config.dropouts
    with pytest.raises(InputError, match=r"a rate in \[0, 1\)"):
        load_model(directory, task="classify", dropout=1.0)


def test_a_model_without_a_head_needs_labels():
    with pytest.raises(InputError, match="does not come with a head"):
        load_model("minilm", task="classify")


def test_a_tokenizer_of_another_model(directory: Path):
    minilm = load_model("minilm", task="features").tokenizer
    minilm.save_pretrained(directory)
    with pytest.raises(InputError, match="30522 tokens but the model embeds 97"):
        load_model(directory, task="classify")


def test_a_tokenizer_with_ids_beyond_the_embedding(directory: Path):
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "film": 96, "fine": 97}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(directory)
    with pytest.raises(InputError, match="gives 'fine' the id 97 but the model embeds the ids from 0 to 96"):
        load_model(directory, task="classify")


def test_a_damaged_tokenizer(directory: Path):
    load_model("minilm", task="features").tokenizer.save_pretrained(directory)
    file = directory / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"the tokenizer in .* cannot be read"):
        load_model(directory, task="classify")


def test_nothing_is_overwritten(tmp_path: Path):
    model = load_model(SOURCE, task="classify")
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(InputError, match="already holds files"):
        save_model(model, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        save_model(model, tmp_path / "mine")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "kept"


def test_other_params_than_the_models_are_refused(tmp_path: Path):
    model = load_model(SOURCE, task="classify")
    headless = {name: node for name, node in model.params.items() if name != "head"}
    with pytest.raises(InputError, match="head/bias, head/kernel missing"):
        save_model(model._replace(params=headless), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_dropout_reaches_both_parts_of_an_encoder_decoder():
    model = load_model(GOLDEN / "encoder_decoder_bert", task="seq2seq", dropout=0.0)
    assert set(model.config.dropouts) == {0.0}
