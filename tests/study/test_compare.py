"""Which groups are compared, over which seeds, with which test, and what is said about it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import jaxft as ft
from jaxft.study.compare import compare
from jaxft.study.groups import grouped, larger_is_better, phrase, show
from jaxft.study.statistics import TESTS, bootstrap_interval, t_interval
from tests.study.made_up import row, table

FULL, LORA, HEAD = [0.90, 0.92, 0.91, 0.93], [0.91, 0.90, 0.92, 0.92], [0.70, 0.72, 0.75, 0.71]
THREE = {"lora": LORA, "full": FULL, "head": HEAD}


def sweep(learning_rates=(1e-4, 1e-3, 1e-2), validation=(0.7, 0.9, 0.8), test=(0.99, 0.85, 0.86), method="lora"):
    return [
        row(accuracy + seed / 1000, validation=chooses + seed / 1000, method=method, lr=rate, seed=seed)
        for rate, chooses, accuracy in zip(learning_rates, validation, test, strict=True)
        for seed in range(3)
    ]


def test_every_group_is_tested_against_the_best_with_holms_correction():
    lora, full, head = compare(table(THREE)).groups
    assert (full.p, full.adjusted_p, full.best_or_equal) == (None, None, True)
    p_lora, p_head = (stats.ttest_rel(values, FULL).pvalue for values in (LORA, HEAD))
    assert lora.p == pytest.approx(p_lora, rel=1e-9)
    assert head.p == pytest.approx(p_head, rel=1e-9)
    assert head.adjusted_p == pytest.approx(2 * p_head, rel=1e-9)
    assert lora.adjusted_p == pytest.approx(p_lora, rel=1e-9)
    assert (lora.best_or_equal, head.best_or_equal) == (True, False)


def test_what_only_an_uncorrected_test_tells_apart_is_bold():
    best = [0.90, 0.92, 0.91, 0.93]
    worse = {name: [b - d for b, d in zip(best, (0.01, 0.03, 0.02, 0.04), strict=True)] for name in ("one", "two")}
    _, *others = compare(table({"best": best, **worse})).groups
    for group in others:
        assert 0.025 < group.p < 0.05 < group.adjusted_p == pytest.approx(2 * group.p)
        assert group.best_or_equal


def test_a_group_is_described_by_its_seeds():
    group = compare(table(THREE)).groups[1]
    assert group.values == dict(enumerate(FULL))
    assert (group.name, group.by, group.n, group.diverged) == ("full", {"method": "full"}, 4, 0)
    assert group.mean == pytest.approx(0.915)
    assert group.std == pytest.approx(math.sqrt(5 / 3) / 100)
    assert group.interval == t_interval(FULL)


def test_the_interval_is_students_of_few_seeds_and_can_be_named():
    few, many = compare(table(THREE)), compare(table({"one": [0.8 + seed / 100 for seed in range(20)]}))
    assert (few.interval, many.interval) == ("t", "bootstrap")
    named = compare(table(THREE), interval="bootstrap")
    assert named.groups[1].interval == bootstrap_interval(FULL)


def test_groups_keep_the_order_of_their_names_and_ascend_in_their_numbers():
    rows = [
        row(0.5, method=method, rank=rank, seed=seed)
        for seed in (1, 0)
        for rank in (16, 2)
        for method in ("lora", "dora")
    ]
    comparison = compare(rows, by=("method", "rank"))
    assert [group.name for group in comparison.groups] == [
        "lora, rank 2",
        "lora, rank 16",
        "dora, rank 2",
        "dora, rank 16",
    ]
    assert comparison.seeds == (0, 1)


def test_a_loss_is_minimised_unless_told_otherwise():
    rows = [{**made, "metrics": {"loss": made["metrics"]["accuracy"]}} for made in table(THREE)]
    assert [group.best_or_equal for group in compare(rows, metric="loss").groups] == [False, False, True]
    assert compare(rows, metric="loss", maximise=True).groups[1].best_or_equal


@pytest.mark.parametrize("test", TESTS)
def test_equal_groups_are_both_best(test):
    groups = compare(table({"one": FULL, "other": FULL}), test=test).groups
    assert [(group.p, group.best_or_equal) for group in groups] == [(None, True), (1.0, True)]


def test_without_a_test_only_the_best_mean_is_marked_and_one_seed_will_do():
    rows = table({"one": [0.9], "other": [0.89]})
    comparison = compare(rows, test=None)
    assert [group.best_or_equal for group in comparison.groups] == [True, False]
    assert comparison.groups[0].interval is None
    with pytest.raises(ft.InputError, match="share only seed 0: run more, or say test=None"):
        compare(rows)


def test_one_group_is_best_without_a_test():
    comparison = compare(table({"only": FULL}))
    assert comparison.test is None
    assert comparison.groups[0].best_or_equal


def test_groups_with_missing_seeds_are_compared_on_the_common_ones_and_this_is_said():
    comparison = compare(table({"long": [*FULL, 0.1], "short": LORA}))
    assert comparison.seeds == (0, 1, 2, 3)
    assert comparison.groups[0].mean == pytest.approx(0.915)
    assert [run.counted for run in comparison.groups[0].runs] == [True] * 4 + [False]
    assert comparison.notes == ("long: seed 4 left out, for not every group has them.",)


def test_a_group_with_diverged_runs_is_named_and_never_best():
    comparison = compare(table({"wild": [0.96875, 0.96875, None, 0.96875], "tame": FULL, "dead": [None] * 4}))
    wild, tame, dead = comparison.groups
    assert (wild.mean, wild.n, wild.diverged, wild.best_or_equal, wild.p) == (0.96875, 3, 1, False, None)
    assert (dead.mean, dead.interval, dead.diverged) == (None, None, 4)
    assert (tame.best_or_equal, tame.n) == (True, 4)
    assert comparison.notes[0].startswith("wild: 1 of 4 runs diverged")


def test_a_metric_that_is_not_finite_counts_as_diverged():
    rows = table({"one": FULL, "other": LORA})
    rows[0]["metrics"]["accuracy"] = math.nan
    assert compare(rows).groups[0].diverged == 1


def test_rows_that_share_a_seed_but_differ_in_another_field_are_refused():
    with pytest.raises(
        ft.InputError, match=r"'lora' has 3 rows with seed 0 that differ in lr .*0\.0001.*equalise=\('lr'"
    ):
        compare(sweep())


def test_one_configuration_twice_is_refused():
    rows = [row(0.5, method="lora", seed=0, key="aa"), row(0.6, method="lora", seed=0, key="bb")]
    with pytest.raises(ft.InputError, match=r"one and the same configuration .keys aa, bb"):
        compare(rows)


def test_the_learning_rate_is_chosen_on_validation_data_and_compared_on_test_data():
    group = compare(sweep() + sweep(validation=(0.1, 0.2, 0.3), method="full"), equalise=("lr",)).groups[0]
    assert group.chosen == {"lr": 1e-3}
    assert group.mean == pytest.approx(0.851)
    assert group.edges == ()


def test_a_choice_at_the_edge_of_its_axis_and_unequal_effort_are_said():
    rows = sweep() + sweep((1e-4, 1e-3), (0.1, 0.2), (0.5, 0.6), method="full")
    comparison = compare(rows, equalise=("lr",))
    assert comparison.groups[1].edges == ("lr",)
    assert any(note.startswith("full: the chosen lr 0.001 lies at the edge") for note in comparison.notes)
    assert comparison.notes[-1] == "Not every group chose among equally many settings: lora 3, full 2."


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=9, max_size=9))
def test_test_metrics_never_choose(values):
    rows = sweep()
    for made, value in zip(rows, values, strict=True):
        made["metrics"]["accuracy"] = value
    assert grouped(rows, by=("method",), metric="accuracy", equalise=("lr",))[0].chosen == {"lr": 1e-3}


def test_settings_are_never_chosen_without_validation_data():
    rows = [{key: part for key, part in made.items() if key != "validation"} for made in sweep()]
    with pytest.raises(ft.InputError, match="never chosen on test data"):
        compare(rows, equalise=("lr",))


def test_a_setting_that_diverged_is_chosen_last():
    rows = sweep()
    rows[3].update(status="diverged", metrics={"accuracy": None}, validation={"accuracy": None})
    assert grouped(rows, by=("method",), metric="accuracy", equalise=("lr",))[0].chosen == {"lr": 1e-2}


def test_settings_are_chosen_over_the_seeds_they_share():
    rows = [made for made in sweep() if (made["config"]["lr"], made["config"]["seed"]) != (1e-2, 0)]
    rows.append(row(0.5, validation=0.0, method="lora", lr=1e-3, seed=9))
    assert grouped(rows, by=("method",), metric="accuracy", equalise=("lr",))[0].chosen == {"lr": 1e-3}
    apart = [*sweep()[:3], row(0.5, validation=0.5, method="lora", lr=1e-3, seed=9)]
    with pytest.raises(ft.InputError, match="no seed in common"):
        compare(apart, equalise=("lr",))


def lost(method, *, at):
    """Two rates and two seeds, of which those at (rate, seed) diverged."""
    runs = [(rate, seed, None if (rate, seed) in at else 0.5 + rate) for rate in (0.01, 0.1) for seed in range(2)]
    return [row(value, validation=value, method=method, lr=rate, seed=seed) for rate, seed, value in runs]


def test_a_group_whose_runs_diverged_stays_when_settings_are_chosen():
    all_lost = [(rate, seed) for rate in (0.01, 0.1) for seed in range(2)]
    rows = lost("well", at=[]) + lost("apart", at=[(0.01, 0), (0.1, 1)]) + lost("dead", at=all_lost)
    comparison = compare(rows, equalise=("lr",))
    well, apart, dead = comparison.groups
    assert (well.best_or_equal, apart.best_or_equal, dead.best_or_equal) == (True, False, False)
    assert (apart.chosen, apart.diverged, len(apart.runs)) == ({"lr": 0.1}, 1, 2)
    assert (dead.mean, dead.diverged, len(dead.runs), dead.edges) == (None, 2, 2, ())
    assert "dead: all of its 2 runs diverged, and it is not compared." in comparison.notes
    assert "dead: of all settings tried, 4 of 4 runs diverged." in comparison.notes
    assert "apart: of all settings tried, 2 of 4 runs diverged." in comparison.notes


def test_a_validation_figure_that_is_none_counts_as_diverged_for_the_choice():
    rows = sweep()
    rows[3]["validation"]["accuracy"] = None
    assert grouped(rows, by=("method",), metric="accuracy", equalise=("lr",))[0].chosen == {"lr": 1e-2}


def test_settings_tried_with_fewer_seeds_are_named():
    comparison = compare(sweep()[:7], equalise=("lr",))
    assert "lora: its settings were not all tried with the same seeds; they share 1 seed to choose by." in (
        comparison.notes
    )
    assert not any("same seeds" in note for note in compare(sweep(), equalise=("lr",)).notes)


def test_the_share_of_diverged_runs_counts_and_not_their_number():
    lone = [row(None, validation=None, method="lora", lr=1e-5, seed=0)]
    rows = lost("lora", at=[(0.01, 0), (0.1, 0)]) + lone
    assert grouped(rows, by=("method",), metric="accuracy", equalise=("lr",))[0].chosen == {"lr": 0.1}


def test_a_field_that_changes_with_the_seed_is_said():
    rows = [row(0.5, method="lora", lr=0.1 * (1 + seed), seed=seed) for seed in range(2)]
    assert compare(rows).notes == ("lora: lr differs between its seeds.",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": ("metod",)}, "no run has a field 'metod'.*nearest: method"),
        ({"metric": "acuracy"}, "no run has a metric 'acuracy'.*nearest: accuracy"),
        ({"test": "tt"}, "no paired test 'tt'"),
        ({"interval": "bca"}, "no interval 'bca'"),
        ({"level": 5}, "level is a share"),
        ({"by": ("method", "seed")}, "'seed' is used twice"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, words):
    with pytest.raises(ft.InputError, match=words):
        compare(table(THREE), **options)


def test_no_rows_and_rows_without_the_metric_are_refused():
    with pytest.raises(ft.InputError, match="there are no rows"):
        compare([])
    rows = table(THREE)
    rows[0]["metrics"] = {"f1": 0.5}
    with pytest.raises(ft.InputError, match=r"1 of 12 runs finished without a metric 'accuracy'.*lora, seed 0"):
        compare(rows)


@pytest.mark.parametrize("part", ["config", "metrics"])
def test_an_incomplete_row_is_named(part):
    rows = table(THREE)
    del rows[2][part]
    with pytest.raises(ft.InputError, match=r"row 2 \(key lora-2\) is incomplete"):
        compare(rows)


def test_groups_without_a_common_seed_are_refused():
    with pytest.raises(ft.InputError, match="no seed in common"):
        compare([row(0.5, method="one", seed=0), row(0.5, method="other", seed=1)])


def test_settings_are_shown_in_words():
    assert [show(value) for value in (None, True, 3e-4, 8, "lora")] == ["–", "yes", "0.0003", "8", "lora"]
    assert (phrase("method", "lora"), phrase("norm", False)) == ("lora", "norm no")


@pytest.mark.parametrize(
    ("names", "larger"),
    [
        (("accuracy", "accuracy_low", "f1", "macroF1", "matthews", "pearson", "spearman", "precision", "recall"), True),
        (("exact_match", "rouge1", "rougeL", "answer/f1", "error_detection_accuracy"), True),
        (("loss", "test/perplexity", "masked_lm_loss", "nll", "mse", "cost", "error-rate", "accuracy_loss"), False),
    ],
)
def test_the_direction_of_a_metric_is_known_by_its_name(names, larger):
    assert [larger_is_better(name) for name in names] == [larger] * len(names)


def test_a_metric_of_unknown_direction_is_asked_for():
    rows = [{**made, "metrics": {"lossless": made["metrics"]["accuracy"]}} for made in table(THREE)]
    with pytest.raises(ft.InputError, match=r"'lossless' does not say .*, or give maximise=True or maximise=False"):
        compare(rows, metric="lossless")
    assert compare(rows, metric="lossless", maximise=False).groups[2].best_or_equal
