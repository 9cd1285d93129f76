"""Figures of extractive question answering: the strings of answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from jaxft.errors import InputError

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """What counts of an answer: lower case, no ASCII punctuation, no articles, single spaces.

    Example:
        >>> normalise_answer("The  Panthers' (a) win!")
        'panthers win'
    """
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def answer_metrics(predictions: Sequence[str], answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match and F1 of SQuAD, shares from 0 to 1.

    Both compare normalised texts, each with the true answer that suits it best; F1 is that of the bags of words, and 0
    when they share none. The figures are means over questions.

    Args:
        predictions: one answer a question.
        answers: the true answers of each question; none where the text holds no answer, to which an empty
            prediction is right.

    Raises:
        InputError: there is no question, or not one prediction each, or a text in place of a list of answers.

    Example:
        >>> answer_metrics(["the red fox", "1999"], [["A red fox.", "fox"], ["in 1999"]])
        {'exact_match': 0.5, 'f1': 0.833...}

    References:
        Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016.
        Rajpurkar, Jia, Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD", 2018.
    """
    if not predictions or len(predictions) != len(answers):
        raise InputError(f"one prediction a question is expected, but {len(predictions)} came for {len(answers)}")
    if texts := [index for index, true in enumerate(answers) if isinstance(true, str)]:
        raise InputError(
            f"a question has a list of true answers, but number {texts[0]} has the text {answers[texts[0]]!r}"
        )
    exact = overlap = 0.0
    for prediction, true in zip(predictions, answers, strict=True):
        guess, truths = normalise_answer(prediction), [normalise_answer(text) for text in true]
        if not truths:
            exact, overlap = exact + (not guess), overlap + (not guess)
            continue
        exact += guess in truths
        overlap += max(_word_f1(guess.split(), truth.split()) for truth in truths)
    return {"exact_match": exact / len(predictions), "f1": overlap / len(predictions)}


def _word_f1(guess: list[str], truth: list[str]) -> float:
    shared = (Counter(guess) & Counter(truth)).total()
    return 2 * shared / (len(guess) + len(truth)) if shared else 0.0
