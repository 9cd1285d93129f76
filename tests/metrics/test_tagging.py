"""Entities and their figures: by hand, and as seqeval finds them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

import jaxft as ft
from jaxft.metrics import entities, tagging_metrics

SEQEVAL = json.loads((Path(__file__).parents[1] / "golden/seqeval.json").read_text(encoding="utf-8"))
BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def padded(texts):
    longest = max(map(len, texts))
    return np.array([[BIO.index(tag) for tag in text] + [-100] * (longest - len(text)) for text in texts])


def logits_of(tags, count=5):
    return np.eye(count)[np.maximum(tags, 0)]


@pytest.mark.parametrize("case", SEQEVAL)
def test_seqeval_agrees(case):
    for tags, expected in zip(case["true"], case["entities"], strict=True):
        assert entities(tags) == {tuple(entity) for entity in expected}
    found = tagging_metrics(logits_of(padded(case["predicted"])), padded(case["true"]), BIO)
    figures = {name: found[name] for name in ("precision", "recall", "f1")}
    assert figures == pytest.approx({name: case[name] for name in figures})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", set()),
        ("O O", set()),
        ("I-X", {("X", 0, 0)}),
        ("B-X I-X I-X", {("X", 0, 2)}),
        ("B-X B-X I-X", {("X", 0, 0), ("X", 1, 2)}),
        ("B-X I-Y I-Y", {("X", 0, 0), ("Y", 1, 2)}),
        ("I-X O I-X", {("X", 0, 0), ("X", 2, 2)}),
        ("B-a-b I-a-b", {("a-b", 0, 1)}),
    ],
)
def test_entities_by_hand(tags, expected):
    assert entities(tags.split()) == expected


@pytest.mark.parametrize("tag", ["B", "I-", "E-X", "", "PER"])
def test_other_tags_mark_no_entities(tag):
    with pytest.raises(ft.InputError, match="O, B-TYPE and I-TYPE, but one is"):
        entities(["O", tag])


def test_tokens_that_do_not_count_break_no_entity():
    labels = np.array([[-100, 1, -100, 2, 0]])
    found = tagging_metrics(logits_of(np.array([[3, 1, 0, 2, 0]])), labels, BIO)
    assert (found["accuracy"], found["precision"], found["recall"], found["f1"]) == (1.0, 1.0, 1.0, 1.0)
    assert found["loss"] == pytest.approx(np.log(np.e + 4) - 1)


def test_entities_do_not_reach_into_the_next_text():
    labels = np.array([[0, 1], [2, 0]])
    assert tagging_metrics(logits_of(np.array([[0, 1], [0, 0]])), labels, BIO)["recall"] == 0.5


def test_nothing_found_is_zero():
    labels = np.zeros((2, 3), int)
    found = tagging_metrics(logits_of(labels), labels, BIO)
    assert (found["accuracy"], found["precision"], found["recall"], found["f1"]) == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("names", [["NOUN", "VERB", "ADJ"], ["O", "PER", "LOC"], ["O", "B-X", "E-X"]])
def test_plain_tags_have_the_f1_of_tokens(names):
    rng = np.random.default_rng(0)
    predicted, labels = rng.integers(0, 3, (2, 4, 6))
    labels[:, 4:] = -100
    found = tagging_metrics(logits_of(predicted, 3), labels, names)
    counts = labels >= 0
    assert found.keys() == {"accuracy", "f1", "loss"}
    assert found["f1"] == pytest.approx(f1_score(labels[counts], predicted[counts], average="macro"))
    assert found["accuracy"] == pytest.approx((labels == predicted)[counts].mean())


@pytest.mark.parametrize(
    ("labels", "names", "reason"),
    [
        ([[0, 5]], BIO, r"from 0 to 4, but there are \[5\]"),
        ([[-100, -100]], BIO, "no token counts"),
        ([[0, 1]], BIO[:3], "has 5 tags, but there are 3 names"),
        ([0, 1], BIO, "one tag a token"),
    ],
)
def test_what_does_not_fit_is_refused(labels, names, reason):
    with pytest.raises(ft.InputError, match=reason):
        tagging_metrics(np.zeros((1, 2, 5)), np.array(labels), names)


def test_logits_that_are_nan_give_no_figure_where_they_count():
    logits, names = np.eye(2)[[[0, 1]]], ["O", "B-LOC"]
    logits[0, 1] = np.nan
    assert tagging_metrics(logits, np.array([[0, -100]]), names)["accuracy"] == 1.0
    assert all(np.isnan(value) for value in tagging_metrics(logits, np.array([[0, 1]]), names).values())
