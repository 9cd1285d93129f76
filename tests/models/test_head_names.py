"""A head from files answers in the order of the names that a caller gives, or says that it cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxft.models import load_model
from tests.cli.conftest import write_weights

RAW = {
    "model_type": "bert",
    "max_position_embeddings": 8,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 12,
    "intermediate_size": 16,
    "architectures": ["BertForSequenceClassification"],
    "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
}
BATCH = {"input_ids": np.array([[2, 5, 7]])}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_weights(tmp_path / "bert", RAW, "classify")
    return tmp_path / "bert"


def logits(directory: Path, **options: object) -> np.ndarray:
    model = load_model(directory, task="classify", pooling="cls", **options)
    return np.asarray(model.apply(model.params, BATCH).logits)


def test_names_that_differ_in_capitals_are_the_same(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    turned = logits(directory, labels=["positive", "negative"])
    np.testing.assert_allclose(turned, logits(directory)[:, ::-1], rtol=1e-6)
    assert not caplog.text


def test_other_names_are_taken_in_the_order_of_the_files_and_that_is_said(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.testing.assert_array_equal(logits(directory, labels=["good", "bad"]), logits(directory))
    assert "names its outputs NEGATIVE, POSITIVE; they are taken in that order for good, bad" in caplog.text


def test_numbers_are_no_names(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = json.loads((directory / "config.json").read_text())
    raw["id2label"] = {"0": "LABEL_0", "1": "LABEL_1"}
    (directory / "config.json").write_text(json.dumps(raw))
    logits(directory, labels=["good", "bad"])
    assert not caplog.text
