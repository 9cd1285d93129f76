"""Where models are found: assets, directories and the hub; and what is fetched and read of them."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from jaxft.errors import InputError
from jaxft.models import load_model
from jaxft.models.config import Request
from jaxft.models.families import family_of
from jaxft.models.family import config_from_hf
from jaxft.models.hub import read_tokenizer

SOURCE = Path(__file__).parent.parent / "golden" / "bert_gelu"


@pytest.mark.parametrize("source", ["mini-lm", "no/such/directory", "./nothing", Path("nothing"), ""])
def test_an_unknown_source_names_the_nearest(source: str | Path):
    with pytest.raises(InputError, match=r"unknown model.*nearest: .*minilm"):
        load_model(source, task="features")


def test_a_file_is_no_model():
    with pytest.raises(InputError, match="is a file: name the directory"):
        load_model(SOURCE / "config.json", task="classify")


def test_a_hub_id_is_downloaded_without_pickles(monkeypatch: pytest.MonkeyPatch):
    asked = {}

    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked[name] = allow_patterns, ignore_patterns
        return str(SOURCE)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_model("owner/name", task="classify").config == load_model(SOURCE, task="classify").config
    files = ["model.safetensors", "chat_template.jinja", "merges.txt", "pytorch_model.bin", "modeling.py"]
    files += ["consolidated.safetensors", "onnx/config.json"]
    allow, ignore = asked["owner/name"]
    assert list(filter_repo_objects(files, allow_patterns=allow, ignore_patterns=ignore)) == files[:3]


def test_a_tokenizer_of_vocabulary_and_merges_alone(tmp_path: Path):
    raw = json.loads((SOURCE / "config.json").read_text()) | {"model_type": "roberta"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "ab"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    tokenizer = read_tokenizer(tmp_path, config_from_hf(family_of(raw), raw, Request("features")))
    assert tokenizer("ab")["input_ids"] == [0, 7, 2]


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch):
    def download(name: str, **_: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError, match=r"'owner/name'.*hub could not be reached"):
        load_model("owner/name", task="features")


def test_a_gguf_file_that_is_not_there_is_no_hub_id(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **_: pytest.fail(f"asked the hub for {name}")
    )
    with pytest.raises(InputError, match=r"there is no GGUF file models/nothing\.gguf"):
        load_model("models/nothing.gguf", task="lm")


def test_a_name_the_hub_does_not_allow():
    with pytest.raises(InputError, match=r"'owner/name\.git' is no asset, no directory, and no name the hub allows"):
        load_model("owner/name.git", task="features")
