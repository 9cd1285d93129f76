"""No row that a run learns from is one that it is measured on, and figures of tokens are those of the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import jaxft as ft
from experiments import bert2bert_chitchat, boolq_pairs, disflqa_spans, language, methods
from jaxft.train import token_losses

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("validate", [False, True])
def test_boolq_measures_on_rows_it_does_not_learn_from(validate: bool):
    train, test = boolq_pairs.tables(boolq_pairs.Config(validate=validate))
    rows = [set(zip(table["text"], table["text_pair"], strict=True)) for table in (train, test)]
    assert len(train) == 2880
    assert not rows[0] & rows[1]


@pytest.mark.parametrize("validate", [False, True])
def test_disflqa_measures_on_passages_it_does_not_learn_from(validate: bool):
    train, test = disflqa_spans.tables(disflqa_spans.Config(validate=validate))
    assert not set(train["context"]) & set(test["context"])


def test_every_reply_comes_after_another_message():
    batch = {
        "input_ids": np.array([[1], [2], [3], [1]]),
        "attention_mask": np.ones((4, 1)),
        "labels": np.arange(4),
        "mask": np.array([True, True, True, False]),
    }
    moved = bert2bert_chitchat.after_others(batch)
    assert (moved["input_ids"] != batch["input_ids"])[batch["mask"]].all()
    assert moved["labels"].tolist() == [0, 1, 2, 3]


def test_losses_of_tokens_sum_to_those_of_the_library():
    model = ft.load_model(GOLDEN / "llama_lm", task="lm")
    ids = np.random.default_rng(0).integers(1, 60, (3, 9)).astype(np.int32)
    labels = np.where(np.arange(9) % 3 == 0, -100, ids)
    rows = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "labels": labels,
        "mask": np.array([True, True, False]),
    }
    found = language.token_nll(model, model.params, [rows])
    expected = token_losses(model.apply, model.params, [rows])
    np.testing.assert_allclose(found.nll.sum(), expected.nll, rtol=1e-6)
    value, low, high = language.figure(found)
    assert low <= value <= high
    np.testing.assert_allclose(value, np.exp(expected.nll / expected.tokens), rtol=1e-6)


def test_a_method_lists_every_rate_that_was_tried():
    found = methods.methods(head=(3e-2, 1e-2), full=(5e-5,))
    assert found["head"].candidates == (1e-2, 3e-2)
    assert (found["full"].rate, found["full"].candidates) == (5e-5, (5e-5,))
