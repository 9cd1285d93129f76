"""ROUGE: how much of a reference text a generated text has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from jaxft.errors import InputError


def rouge_metrics(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L as F-measures from 0 to 1, means over the texts.

    F = 2 m / (|p| + |r|),  m the shared words, the shared pairs of words, or the longest common subsequence of words

    A word is a run of the letters a–z and digits in the lower-cased text, whatever else separates; words are not
    stemmed. ROUGE-L takes each text as one sequence, line breaks or not.

    Args:
        predictions: the generated texts.
        references: one true text each.

    Raises:
        InputError: there is no text, or not one reference each.

    Example:
        >>> figures = rouge_metrics(["the cat sat on a mat"], ["A cat sat on the mat."])
        >>> print(", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        rouge1 1.000, rouge2 0.400, rougeL 0.667

    References:
        Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
    """
    if not predictions or len(predictions) != len(references):
        raise InputError(f"one reference a prediction is expected, but {len(references)} came for {len(predictions)}")
    totals = {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}
    for prediction, reference in zip(predictions, references, strict=True):
        p, r = _words(prediction), _words(reference)
        totals["rouge1"] += _shared_grams(p, r, 1)
        totals["rouge2"] += _shared_grams(p, r, 2)
        totals["rougeL"] += _f_measure(_common_subsequence(p, r), len(p), len(r))
    return {name: total / len(predictions) for name, total in totals.items()}


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _shared_grams(p: list[str], r: list[str], n: int) -> float:
    ours, theirs = (Counter(zip(*(words[shift:] for shift in range(n)), strict=False)) for words in (p, r))
    return _f_measure((ours & theirs).total(), ours.total(), theirs.total())


def _f_measure(shared: int, predicted: int, true: int) -> float:
    return 2 * shared / (predicted + true) if shared else 0.0


def _common_subsequence(p: list[str], r: list[str]) -> int:
    """Length of the longest common subsequence, a row of its table at a time in the bits of one integer.

    References:
        Hyyrö, "Bit-Parallel LCS-length Computation Revisited", 2004.
    """
    where: dict[str, int] = {}
    for index, word in enumerate(p):
        where[word] = where.get(word, 0) | 1 << index
    full = (1 << len(p)) - 1
    row = full
    for word in r:
        match = row & where.get(word, 0)
        row = ((row + match) | (row - match)) & full
    return len(p) - row.bit_count()
