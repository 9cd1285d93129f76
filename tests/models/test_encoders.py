"""What the families of encoders do with tasks, poolings and files of other classes, and each of its own."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxft.errors import InputError
from jaxft.models import load_model, save_model
from jaxft.trees import leaf_paths
from tests.models.golden import GOLDEN, TASKS, Arrays, edited, golden, run, same

ONE_EACH = ("bert_pair", "roberta_classify", "xlm_roberta_tag", "distilbert_classify", "electra_classify")
one_each = pytest.mark.parametrize("name", ONE_EACH)


@one_each
@pytest.mark.parametrize("task", ["classify", "regress", "features", "tag", "spans"])
def test_every_task_and_pooling_goes_through_files(tmp_path: Path, name: str, task: str):
    for pooling in (None,) if task in ("tag", "spans") else ("mean", "cls"):
        labels = {"classify": ["bad", "fair"], "regress": ["rating"], "tag": ["O", "B", "I"]}.get(task)
        model = load_model(GOLDEN / name, task=task, labels=labels, pooling=pooling, seed=3)
        directory = tmp_path / str(pooling)
        save_model(model, directory)
        again = load_model(directory, task=task)
        assert same(model, again)
        assert again.config == model.config
        shapes = jax.eval_shape(model.apply, model.params, {"input_ids": np.ones((2, 6), np.int32)})
        outputs = {"classify": (2, 2), "regress": (2, 1), "tag": (2, 6, 3), "spans": (2, 6, 2), "features": None}[task]
        assert (shapes.logits if outputs is None else shapes.logits.shape) == outputs
        assert (shapes.features is None) == (pooling is None)


# Files of other classes.

HEADS_OF_PRETRAINING = {
    "bert_pair": ("cls.predictions.transform.dense.weight", "cls.seq_relationship.bias"),
    "roberta_classify": ("lm_head.dense.weight", "lm_head.bias", "roberta.pooler.dense.weight"),
    "xlm_roberta_tag": ("lm_head.layer_norm.bias", "lm_head.decoder.weight"),
    "distilbert_classify": ("vocab_transform.weight", "vocab_layer_norm.bias", "vocab_projector.weight"),
    "electra_classify": ("discriminator_predictions.dense.weight", "generator_lm_head.bias"),
}
HEADS = ("classifier.", "pre_classifier.", "qa_outputs.")


def pretrained(name: str):
    """The arrays as a pretraining class saves them: without our head, with its own."""

    def change(arrays: Arrays) -> Arrays:
        kept = {key: array for key, array in arrays.items() if not key.startswith(HEADS)}
        return kept | {key: np.zeros((3, 3), np.float32) for key in HEADS_OF_PRETRAINING[name]}

    return change


@one_each
def test_a_pretrained_file_gives_the_encoder_and_a_fresh_head(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
):
    directory = edited(name, tmp_path / "base", change=pretrained(name), architectures=["OfPretraining"], id2label=None)
    model = load_model(directory, task="classify", num_labels=2, pooling="cls")
    pooler = () if name == "bert_pair" else ("pooler",)
    assert caplog.text.strip().endswith(f"fresh, not pretrained (seed 0): {', '.join((*pooler, 'head'))}")
    original = leaf_paths(golden(name)[0].params)
    mine = leaf_paths(model.params)
    fresh = {path for path in mine if path.startswith(("head/", *pooler))}
    assert all(np.array_equal(mine[path], original[path]) for path in mine.keys() - fresh)
    assert load_model(directory, task="features").config.pooling == "mean"


@one_each
def test_an_array_with_no_place_is_refused(tmp_path: Path, name: str):
    prefix = next(key for key in load_file(GOLDEN / name / "model.safetensors") if "embeddings" in key).split(".")[0]
    odd = {f"{prefix}.adapter.weight": np.zeros(2, np.float32), "scorer.bias": np.zeros(2, np.float32)}
    directory = edited(name, tmp_path / "odd", change=lambda arrays: arrays | odd)
    with pytest.raises(InputError, match=r"with no place in the model: adapter.weight, scorer.bias"):
        load_model(directory, task=TASKS[name])


@pytest.mark.parametrize("name", ["roberta_classify", "distilbert_classify", "electra_classify"])
def test_features_of_the_first_token_need_no_untrained_pooler(name: str, caplog: pytest.LogCaptureFixture):
    _, batch, expected = golden(name)
    model = load_model(GOLDEN / name, task="features", pooling="cls")
    assert "pooler" not in model.params
    assert caplog.text == ""
    np.testing.assert_allclose(run(model, batch).features, expected["hidden_2"][:, 0], rtol=1e-5, atol=1e-5)


def test_berts_own_pooler_comes_with_its_features(caplog: pytest.LogCaptureFixture):
    _, batch, expected = golden("bert_pair")
    model = load_model(GOLDEN / "bert_pair", task="features", pooling="cls")
    assert caplog.text == ""
    kernel, bias = model.params["pooler"]["kernel"], model.params["pooler"]["bias"]
    features = np.tanh(expected["hidden_2"][:, 0] @ kernel + bias)
    np.testing.assert_allclose(run(model, batch).features, features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["roberta_classify", "electra_classify", "distilbert_classify"])
def test_a_trained_pooler_outlives_its_head(name: str, caplog: pytest.LogCaptureFixture):
    model = load_model(GOLDEN / name, task="classify", num_labels=2)
    assert caplog.text.strip().endswith("fresh, not pretrained (seed 0): head")
    assert (model.params["pooler"]["kernel"] == golden(name)[0].params["pooler"]["kernel"]).all()


# What a family has of its own.


def test_roberta_counts_positions_over_tokens_that_are_no_padding():
    model, batch, _ = golden("roberta_classify")
    ids = batch["input_ids"][:1]
    shifted = np.concatenate([np.full((1, 2), 1, np.int32), ids], axis=1)
    states = [run(model, {"input_ids": some}).hidden_states[0] for some in (ids, shifted)]
    np.testing.assert_allclose(states[1][:, 2:], states[0], atol=1e-6)


@pytest.mark.parametrize(("name", "most"), [("roberta_classify", 15), ("distilbert_classify", 18), ("electra_tag", 17)])
def test_longer_inputs_than_positions_are_refused(name: str, most: int):
    model, _, _ = golden(name)
    full = np.full((1, most), 5, np.int32)
    assert jnp.isfinite(run(model, {"input_ids": full}).logits).all()
    longer = np.full((1, most + 1), 5, np.int32)
    with pytest.raises(InputError, match=f"{most + 1} tokens long but the model has {most} positions"):
        model.apply(model.params, {"input_ids": longer})


@pytest.mark.parametrize("name", ["roberta_classify", "distilbert_classify"])
def test_kinds_of_token_do_not_matter_to_a_model_that_knows_one(name: str):
    model, batch, expected = golden(name)
    kinds = np.ones_like(batch["input_ids"])
    found = run(model, batch | {"token_type_ids": kinds}).logits
    np.testing.assert_allclose(found, expected["logits"], rtol=1e-5, atol=1e-5)


def test_the_projection_has_a_path_where_embeddings_are_narrower():
    paths = leaf_paths(golden("electra_classify")[0].params)
    assert paths["embeddings/projection/kernel"].shape == (14, 24)
    assert paths["embeddings/word/embedding"].shape == (79, 14)
    assert "embeddings/projection/kernel" not in leaf_paths(golden("electra_tag")[0].params)


NAMES_OF_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
NAMES_OF_DISTILBERT = ("dropout", "attention_dropout", "seq_classif_dropout", "qa_dropout")


@pytest.mark.parametrize(
    ("name", "rate", "count"),
    [
        ("bert_pair", "hidden_dropout_prob", 1 + 2 * 2),
        ("bert_pair", "attention_probs_dropout_prob", 2),
        ("bert_pair", "classifier_dropout", 1),
        ("bert_tag", "classifier_dropout", 1),
        ("bert_spans", "classifier_dropout", 0),
        ("roberta_classify", "classifier_dropout", 2),
        ("xlm_roberta_tag", "classifier_dropout", 1),
        ("roberta_spans", "classifier_dropout", 0),
        ("electra_classify", "classifier_dropout", 2),
        ("electra_tag", "classifier_dropout", 1),
        ("distilbert_classify", "dropout", 1 + 2),
        ("distilbert_classify", "attention_dropout", 2),
        ("distilbert_classify", "seq_classif_dropout", 1),
        ("distilbert_tag", "dropout", 1 + 2 + 1),
        ("distilbert_spans", "qa_dropout", 1),
    ],
)
def test_dropout_stands_where_hugging_face_has_it(tmp_path: Path, name: str, rate: str, count: int):
    rates = NAMES_OF_DISTILBERT if name.startswith("distilbert") else NAMES_OF_RATES
    directory = edited(name, tmp_path / "source", **{other: 0.5 * (other == rate) for other in rates})
    model = load_model(directory, task=TASKS[name])
    batch = golden(name)[1]

    def logits(params, key):
        return model.apply(params, batch, train=True, key=key).logits

    masks = str(jax.make_jaxpr(logits)(model.params, jax.random.key(0))).count("random_bits[")
    assert masks == count


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("roberta_classify", {"position_embedding_type": "relative_key"}, "absolute position embeddings"),
        ("xlm_roberta_tag", {"is_decoder": True}, "expected an encoder"),
        ("roberta_classify", {"pad_token_id": -1}, "pad_token_id in config.json must be a whole number from 0 up"),
        ("roberta_classify", {"max_position_embeddings": 2}, r"must exceed pad_token_id \+ 1, which is 2; got 2"),
        ("distilbert_tag", {"n_heads": 3}, "dim 20 is not a multiple of n_heads 3"),
        ("distilbert_tag", {"activation": "softmax"}, "activation must be one of"),
        ("electra_tag", {"embedding_size": 13}, r"missing: embeddings_project.bias .*, embeddings_project.weight "),
    ],
)
def test_a_config_that_no_model_can_be_built_from(tmp_path: Path, name: str, fields: dict[str, object], message: str):
    directory = edited(name, tmp_path / "source", **fields)
    with pytest.raises(InputError, match=message):
        load_model(directory, task=TASKS[name])


def test_a_padding_token_of_another_number(tmp_path: Path):
    def change(arrays: Arrays) -> Arrays:
        name = "roberta.embeddings.position_embeddings.weight"
        return arrays | {name: np.ascontiguousarray(arrays[name][1:])}

    directory = edited("roberta_classify", tmp_path / "s", change=change, pad_token_id=0, max_position_embeddings=16)
    moved, (model, batch, _) = load_model(directory, task="classify"), golden("roberta_classify")
    ids = np.where(batch["input_ids"] < 2, 2, batch["input_ids"])
    full = {"input_ids": ids}
    found, expected = (run(some, full).logits for some in (moved, model))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
