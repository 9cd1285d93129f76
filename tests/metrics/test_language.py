"""Perplexity from sums."""

from __future__ import annotations

import math

import pytest

import jaxft as ft
from jaxft.metrics import language_metrics, perplexity


def test_a_fair_guess_among_k_has_perplexity_k():
    found = language_metrics(nll=6 * math.log(50), tokens=6, correct=3)
    assert found == pytest.approx({"loss": math.log(50), "perplexity": 50.0, "accuracy": 0.5})
    assert perplexity(0.0, 1) == 1.0


def test_it_overflows_to_infinity():
    assert perplexity(1e6, 1) == math.inf


@pytest.mark.parametrize("figure", [lambda: perplexity(0.0, 0), lambda: language_metrics(0.0, 0, 0)])
def test_no_tokens_are_refused(figure):
    with pytest.raises(ft.InputError, match="at least one token that counts"):
        figure()
