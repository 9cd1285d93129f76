"""The interval of a proportion."""

from __future__ import annotations

import pytest

import jaxft as ft
from jaxft.metrics import wilson_interval


@pytest.mark.parametrize(("correct", "total"), [(0, 5), (5, 5), (1, 2), (1796, 2128)])
def test_the_interval_solves_its_equation(correct, total):
    share = correct / total
    for bound in wilson_interval(correct, total):
        assert (share - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / total, abs=1e-9)


def test_no_trials_are_refused():
    with pytest.raises(ft.InputError, match="at least one row"):
        wilson_interval(0, 0)
