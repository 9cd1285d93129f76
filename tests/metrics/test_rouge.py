"""ROUGE: by hand, as rouge-score computes it, and the subsequence against its table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxft as ft
from jaxft.metrics import rouge_metrics

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/rouge.json").read_text(encoding="utf-8"))
WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=12)


def test_rouge_score_agrees():
    for row in GOLDEN:
        found = rouge_metrics([row["prediction"]], [row["reference"]])
        assert found == pytest.approx(row["figures"], abs=1e-8), row


def test_texts_are_averaged():
    figures = rouge_metrics([row["prediction"] for row in GOLDEN], [row["reference"] for row in GOLDEN])
    for name, value in figures.items():
        assert value == pytest.approx(np.mean([row["figures"][name] for row in GOLDEN]))


def test_the_example_of_the_paper():
    """Lin 2004, section 3: S2 and S3 share as many words with S1, but S2 more of them in order."""
    reference = "police killed the gunman"
    second, third = (
        rouge_metrics([text], [reference]) for text in ("police kill the gunman", "the gunman kill police")
    )
    assert (second["rougeL"], third["rougeL"]) == (0.75, 0.5)
    assert second["rouge1"] == third["rouge1"] == 0.75
    assert second["rouge2"] == third["rouge2"] == pytest.approx(1 / 3)


@given(WORDS, WORDS)
def test_the_subsequence_is_that_of_the_table(p, r):
    table = np.zeros((len(p) + 1, len(r) + 1), int)
    for i, a in enumerate(p):
        for j, b in enumerate(r):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    found = rouge_metrics([" ".join(p)], [" ".join(r)])["rougeL"]
    assert found == pytest.approx(2 * table[-1, -1] / (len(p) + len(r)))


def test_other_counts_are_refused():
    with pytest.raises(ft.InputError, match="one reference a prediction is expected, but 1 came for 2"):
        rouge_metrics(["a", "b"], ["a"])
    with pytest.raises(ft.InputError, match="one reference a prediction"):
        rouge_metrics([], [])
