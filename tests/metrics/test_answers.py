"""Exact match and F1 of answers, by hand."""

from __future__ import annotations

import pytest

import jaxft as ft
from jaxft.metrics import answer_metrics, normalise_answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat", "cat"),
        ("theatre of A", "theatre of"),
        ("an  apple,\ta\npear", "apple pear"),
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("It's — «so»", "its — «so»"),
        ("a-the", "athe"),
        ("the", ""),
    ],
)
def test_normal_form(text, expected):
    assert normalise_answer(text) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Denver Broncos.", ["Denver Broncos"], 1.0, 1.0),
        ("Denver Broncos", ["Carolina Panthers"], 0.0, 0.0),
        ("in Santa Clara", ["Santa Clara, California", "Levi's Stadium"], 0.0, 2 / 3),
        ("red red fox", ["red fox fox"], 0.0, 2 / 3),
        ("gold", ["gold medal of 1999", "gold"], 1.0, 1.0),
        ("fox red", ["red fox"], 0.0, 1.0),
        ("", ["red"], 0.0, 0.0),
        ("the", ["a"], 1.0, 0.0),
    ],
)
def test_one_question(prediction, answers, exact, f1):
    assert answer_metrics([prediction], [answers]) == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_questions_are_averaged():
    found = answer_metrics(["red fox", "blue", "x"], [["fox"], ["blue"], ["y"]])
    assert found == {"exact_match": pytest.approx(1 / 3), "f1": pytest.approx((2 / 3 + 1) / 3)}


def test_a_question_without_an_answer_is_right_when_it_gets_none():
    assert answer_metrics(["", "the fox", "fox"], [[], [], ["fox"]]) == {
        "exact_match": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize(
    ("predictions", "answers", "reason"),
    [
        ([], [], "one prediction a question is expected"),
        (["a"], [["a"], ["b"]], "but 1 came for 2"),
        (["a"], ["a"], "a list of true answers, but number 0 has the text 'a'"),
    ],
)
def test_what_does_not_fit_is_refused(predictions, answers, reason):
    with pytest.raises(ft.InputError, match=reason):
        answer_metrics(predictions, answers)
