"""Means, intervals, paired tests and Holm's correction against closed forms, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import jaxft as ft
from jaxft.study.statistics import (
    TESTS,
    bootstrap_interval,
    holm,
    mean,
    mean_interval,
    paired_test,
    standard_deviation,
    t_interval,
)

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)
SEVERAL = st.lists(FINITE, min_size=1, max_size=7)
PAIRS = st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=7)


def test_mean_and_deviation_of_a_hand_computed_sample():
    values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]
    assert mean(values) == 5.0
    assert standard_deviation(values) == pytest.approx(math.sqrt(32 / 7), rel=1e-15)


def test_one_value_has_neither_deviation_nor_interval():
    assert (mean([0.25]), standard_deviation([0.25]), bootstrap_interval([0.25])) == (0.25, None, None)


def test_equal_values_have_no_spread():
    assert standard_deviation([0.1] * 3) == 0.0
    assert bootstrap_interval([0.1] * 3) == (0.1, 0.1)


def test_the_interval_is_scipys_bca_of_the_sorted_values():
    values = np.random.default_rng(3).gamma(1.0, size=9)
    expected = stats.bootstrap(
        (np.sort(values),), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(0)
    ).confidence_interval
    assert bootstrap_interval(values) == (expected.low, expected.high)


@pytest.mark.parametrize(("count", "least", "most"), [(5, 0.78, 0.90), (20, 0.89, 0.97)])
def test_the_interval_covers_the_mean_about_as_often_as_documented(count, least, most):
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        low, high = bootstrap_interval(generator.normal(0.8, 0.02, count), resamples=999)
        hits += low <= 0.8 <= high
    assert least <= hits / 300 <= most


@pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
def test_students_interval_covers_the_mean_of_normal_values_as_often_as_it_says(count):
    draws = np.random.default_rng(count).normal(0.8, 0.02, (4000, count))
    hits = sum(low <= 0.8 <= high for low, high in map(t_interval, draws))
    assert 0.94 <= hits / 4000 <= 0.96


@pytest.mark.parametrize(("count", "most"), [(2, 0.55), (3, 0.78), (5, 0.88)])
def test_the_bootstrap_of_a_few_values_covers_too_seldom(count, most):
    draws = np.random.default_rng(count).normal(0.8, 0.02, (300, count))
    hits = sum(low <= 0.8 <= high for low, high in (bootstrap_interval(values, resamples=999) for values in draws))
    assert hits / 300 <= most


def test_students_interval_is_scipys():
    values = np.random.default_rng(4).normal(size=6)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert t_interval(values, confidence=0.9) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert (t_interval([0.5]), t_interval([0.5, 0.5])) == (None, (0.5, 0.5))


def test_the_interval_of_a_mean_is_students_below_twenty_values_unless_named():
    few, many = np.random.default_rng(5).normal(size=(2, 20))
    assert mean_interval(few[:19]) == t_interval(few[:19])
    assert mean_interval(many) == bootstrap_interval(many)
    assert mean_interval(few[:5], kind="bootstrap") == bootstrap_interval(few[:5])
    with pytest.raises(ft.InputError, match=r"no interval 'boostrap'.*nearest: bootstrap"):
        mean_interval(few, kind="boostrap")


@settings(max_examples=30, deadline=None)
@given(SEVERAL.filter(lambda values: len(values) > 1), st.randoms())
def test_the_interval_lies_within_the_values_whatever_their_order(values, random):
    low, high = bootstrap_interval(values, resamples=199)
    assert min(values) <= low <= high <= max(values)
    random.shuffle(values)
    assert bootstrap_interval(values, resamples=199) == (low, high)


@settings(max_examples=20, deadline=None)
@given(SEVERAL.filter(lambda values: len(values) > 1))
def test_a_surer_interval_is_no_narrower(values):
    narrow = bootstrap_interval(values, confidence=0.8, resamples=499)
    wide = bootstrap_interval(values, confidence=0.99, resamples=499)
    rounding = 1e-12 * max(map(abs, values))
    assert wide[0] <= narrow[0] + rounding
    assert narrow[1] <= wide[1] + rounding


@pytest.mark.parametrize("count", [2, 5, 12])
def test_the_t_test_is_scipys(count):
    first, second = np.random.default_rng(count).normal(size=(2, count))
    assert paired_test(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)


def test_the_t_test_of_two_seeds_by_hand():
    # d = (1, 3): mean 2, s = √2, t = 2; with one degree of freedom p = 1 − (2/π) atan 2.
    assert paired_test([1.0, 3.0], [0.0, 0.0]) == pytest.approx(1 - 2 / math.pi * math.atan(2), rel=1e-12)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_the_permutation_test_is_the_brute_force_over_all_signs(count):
    first, second = np.random.default_rng(count).integers(0, 4, size=(2, count)) / 10
    difference = (first - second).round(6)
    sums = [abs(np.dot(signs, difference)) for signs in itertools.product((1, -1), repeat=count)]
    share = np.mean([value >= abs(difference.sum()) - 1e-9 for value in sums])
    assert paired_test(first, second, test="permutation") == pytest.approx(share, rel=1e-12)


def test_the_wilcoxon_test_is_scipys_exact_one():
    first, second = np.random.default_rng(1).normal(size=(2, 9))
    expected = stats.wilcoxon(first, second, method="exact").pvalue
    assert paired_test(first, second, test="wilcoxon") == pytest.approx(expected, rel=1e-12)


def test_the_wilcoxon_test_shares_ranks_among_ties_and_drops_zeros():
    # d = 0.1, 0.1, 0.1, 0: ranks 2, 2, 2; of the eight sign patterns two reach the sum of 6.
    assert paired_test([0.3, 0.4, 0.8, 0.5], [0.2, 0.3, 0.7, 0.5], test="wilcoxon") == 0.25


def test_the_wilcoxon_test_of_many_seeds_is_the_normal_one():
    first, second = np.random.default_rng(2).normal(size=(2, 30))
    expected = stats.wilcoxon(first, second, method="asymptotic").pvalue
    assert paired_test(first, second, test="wilcoxon") == pytest.approx(expected, rel=1e-9)


def test_one_and_the_same_difference_claims_no_more_than_the_signs_can():
    for test in TESTS:
        assert paired_test([0.3, 0.4, 0.5, 0.6, 0.7], [0.2, 0.3, 0.4, 0.5, 0.6], test=test) == 2 / 2**5


@pytest.mark.parametrize("count", [2, 5, 21, 40])
def test_equal_differences_of_any_number_of_seeds_claim_what_the_signs_say(count):
    base = np.random.default_rng(count).uniform(0.5, 0.9, count)
    for test in ("t", "permutation"):
        assert paired_test(base + 0.01, base, test=test) == 2.0 ** (1 - count)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("scale", [1.0, 700.0, 1e-3])
def test_differences_of_float32_figures_that_are_equal_up_to_rounding_are_equal(test, scale):
    base = np.random.default_rng(0).uniform(0.05, 1, 8)
    shifted = np.float32(scale * (base + 0.01)), np.float32(scale * base)
    assert np.ptp(shifted[0].astype(float) - shifted[1].astype(float)) > 0
    assert paired_test(*shifted, test=test) == 2 / 2**8
    assert paired_test(np.float32(scale * base), scale * base, test=test) == 1


def test_differences_beyond_rounding_are_tested_as_they_are():
    base = np.random.default_rng(1).uniform(0.5, 1, 8)
    moved = base + 0.01 + 1e-5 * np.random.default_rng(2).normal(size=8)
    assert paired_test(moved, base) == pytest.approx(stats.ttest_rel(moved, base).pvalue, rel=1e-9)
    assert paired_test(moved, base) < 1e-12


@pytest.mark.parametrize("seed", range(20))
def test_the_tests_are_scipys_on_random_figures(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.normal(0.8, 0.02, size=(2, int(generator.integers(3, 12))))
    first = first + generator.choice([0, 0.01, 0.05])
    assert paired_test(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)
    expected = stats.wilcoxon(first, second, method="exact").pvalue
    assert paired_test(first, second, test="wilcoxon") == pytest.approx(expected, rel=1e-9)
    flips = stats.permutation_test(
        (first - second,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert paired_test(first, second, test="permutation") == pytest.approx(flips.pvalue, rel=1e-9)


@pytest.mark.parametrize("test", TESTS)
@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS)
def test_a_p_value_is_symmetric_and_bounded(test, pairs):
    first, second = zip(*pairs, strict=True)
    p = paired_test(first, second, test=test)
    assert 0 <= p <= 1
    assert paired_test(second, first, test=test) == pytest.approx(p, rel=1e-9)
    assert paired_test(first, first, test=test) == 1
    if test != "t":
        assert p >= 2 / 2 ** len(pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6).filter(lambda d: np.ptp(d) > 1e-3), st.floats(0.1, 5))
def test_a_larger_gap_of_the_same_spread_is_no_less_significant(noise, gap):
    noise = np.asarray(noise) - np.mean(noise)
    zeros = np.zeros(len(noise))
    assert paired_test(noise + 2 * gap, zeros) <= paired_test(noise + gap, zeros) + 1e-12


def test_holm_by_hand():
    # sorted: 4 · 0.005 = 0.02; 3 · 0.01 = 0.03; 2 · 0.03 = 0.06; 1 · 0.04 rises to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02], rel=1e-15)
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=9))
def test_holm_lies_between_no_correction_and_bonferronis_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, after in zip(p_values, adjusted, strict=True):
        assert p <= after <= min(1.0, p * len(p_values))
    for left, right in itertools.combinations(range(len(p_values)), 2):
        if p_values[left] <= p_values[right]:
            assert adjusted[left] <= adjusted[right]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean([]), "at least one value"),
        (lambda: mean([0.5, math.nan]), "finite values, but there is nan"),
        (lambda: bootstrap_interval([1.0, 2.0], confidence=95), "share between 0 and 1"),
        (lambda: paired_test([1.0], [2.0]), "at least two seeds"),
        (lambda: paired_test([1.0, 2.0], [1.0, 2.0, 3.0]), "there are 2 and 3 values"),
        (lambda: paired_test([1.0, 2.0], [1.0, 3.0], test="permutatoin"), "nearest: permutation"),
        (lambda: paired_test(range(21), [0.0] * 21, test="permutation"), "up to 20 seeds"),
        (lambda: holm([0.5, 1.5]), "between 0 and 1, but 1.5"),
    ],
)
def test_what_cannot_be_computed_is_refused(call, words):
    with pytest.raises(ft.InputError, match=words):
        call()
