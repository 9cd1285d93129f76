"""Tokenizers that a directory holds in a form that is not read: said, and never made up."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from jaxft.models import load_model

T5 = Path(__file__).parent.parent / "golden" / "t5_relu"


@pytest.mark.parametrize("names", [("spiece.model",), ("tokenizer_config.json", "tokenizer.model")])
def test_sentencepiece_alone_is_no_tokenizer_and_the_log_says_so(tmp_path: Path, names: tuple[str, ...], caplog):
    shutil.copytree(T5, tmp_path / "model")
    for name in names:
        (tmp_path / "model" / name).write_text("{}")
    with caplog.at_level(logging.WARNING, "jaxft"):
        assert load_model(tmp_path / "model", task="seq2seq").tokenizer is None
    (message,) = [record.getMessage() for record in caplog.records]
    assert f"only in {names[-1]}, and what is read is a tokenizer.json" in message


def test_settings_without_a_vocabulary_make_no_tokenizer(tmp_path: Path, caplog):
    shutil.copytree(T5, tmp_path / "model")
    settings = {"tokenizer_class": "T5Tokenizer"}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    with caplog.at_level(logging.WARNING, "jaxft"):
        assert load_model(tmp_path / "model", task="seq2seq").tokenizer is None
    assert "only in tokenizer_config.json" in caplog.text


def test_a_directory_without_any_says_nothing(caplog):
    with caplog.at_level(logging.WARNING, "jaxft"):
        assert load_model(T5, task="seq2seq").tokenizer is None
    assert not caplog.records
