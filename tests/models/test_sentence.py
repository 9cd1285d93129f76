"""The pooling that a directory of sentence-transformers names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub.utils import filter_repo_objects

from jaxft.errors import InputError
from jaxft.models import load_model, save_model

GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")
BATCH = {"input_ids": np.array([[1, 5, 7, 9], [1, 4, 0, 0]]), "attention_mask": np.array([[1] * 4, [1, 1, 0, 0]])}


def flags(*on: str) -> dict[str, object]:
    return {"word_embedding_dimension": 24} | {f"pooling_mode_{name}": name in on for name in NAMES}


def directory(where: Path, pooling: dict[str, object], case: str = "bert_pair", **fields: object) -> Path:
    """A bare encoder with a pooling beside it."""
    shutil.copytree(GOLDEN / case, where)
    raw = json.loads((where / "config.json").read_text())
    (where / "config.json").write_text(json.dumps(raw | {"architectures": ["BertModel"]} | fields))
    (where / "1_Pooling").mkdir()
    (where / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return where


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (flags("mean_tokens"), "mean"),
        (flags("cls_token"), "first"),
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode": ["mean"]}, "mean"),
    ],
)
def test_features_are_those_of_the_files(tmp_path: Path, pooling: dict, expected: str):
    source = directory(tmp_path / "source", pooling)
    model = load_model(source, task="features")
    assert model.config.pooling == expected
    outputs = jax.jit(model.apply)(model.params, BATCH)
    last, mask = np.asarray(outputs.hidden_states[-1]), BATCH["attention_mask"][..., None]
    wanted = last[:, 0] if expected == "first" else (last * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(outputs.features, wanted, atol=1e-6)

    head = load_model(source, task="classify", num_labels=2)
    assert head.config.pooling == expected
    assert load_model(source, task="classify", num_labels=2, pooling="cls").config.pooling == "cls"
    save_model(head, tmp_path / "saved")
    again = load_model(tmp_path / "saved", task="classify")
    assert again.config == head.config
    np.testing.assert_array_equal(again.apply(again.params, BATCH).logits, head.apply(head.params, BATCH).logits)


def test_the_last_token_of_a_decoder(tmp_path: Path):
    source = directory(tmp_path / "source", flags("lasttoken"), "llama_lm", architectures=["LlamaModel"])
    assert load_model(source, task="features").config.pooling == "last"


def test_a_head_in_the_files_and_tasks_of_tokens_go_their_own_way(tmp_path: Path):
    trained = {"architectures": ["BertForSequenceClassification"]}
    source = directory(tmp_path / "source", flags("mean_tokens"), **trained)
    assert load_model(source, task="classify").config.pooling == "cls"
    assert load_model(source, task="tag", num_labels=2).config.pooling == "tokens"


@pytest.mark.parametrize(
    ("pooling", "named"),
    [
        (flags("max_tokens"), "max_tokens"),
        (flags("cls_token", "mean_tokens"), "cls_token and mean_tokens"),
        (flags(), "nothing"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
    ],
)
def test_another_pooling_is_named(tmp_path: Path, pooling: dict, named: str):
    source = directory(tmp_path / "source", pooling)
    with pytest.raises(InputError, match=rf"pooled by {named} .*name the pooling"):
        load_model(source, task="features")
    assert load_model(source, task="features", pooling="mean").config.pooling == "mean"


def modules(where: Path, *kinds: str) -> None:
    listed = [{"idx": place, "type": f"sentence_transformers.models.{kind}"} for place, kind in enumerate(kinds)]
    (where / "modules.json").write_text(json.dumps(listed))


def test_a_layer_behind_the_pooling_is_named(tmp_path: Path):
    source = directory(tmp_path / "source", flags("mean_tokens"))
    modules(source, "Transformer", "Pooling", "Normalize")
    assert load_model(source, task="features").config.pooling == "mean"
    modules(source, "Transformer", "Pooling", "Dense", "Normalize")
    with pytest.raises(InputError, match=r"go through Dense \(modules.json\), which is not read: name the pooling"):
        load_model(source, task="features")
    assert load_model(source, task="features", pooling="mean").config.pooling == "mean"
    (source / "modules.json").write_text("{")
    with pytest.raises(InputError, match="is no list of sentence-transformers' modules"):
        load_model(source, task="features")


def test_the_file_comes_along_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = directory(tmp_path / "source", flags("cls_token"))
    asked = {}

    def download(name: str, **patterns: list[str]) -> str:
        asked.update(patterns)
        return str(source)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_model("owner/name", task="features").config.pooling == "first"
    files = [
        "1_Pooling/config.json",
        "modules.json",
        "model.safetensors",
        "onnx/config.json",
        "1_Dense/model.safetensors",
    ]
    assert list(filter_repo_objects(files, **asked)) == files[:3]
