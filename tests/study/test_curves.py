"""Metrics along labelled rows, steps and costs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxft as ft
from jaxft.study.curves import cost_front, data_efficiency, learning_curves
from jaxft.study.figures import front_picture
from jaxft.study.statistics import t_interval
from tests.study.made_up import row, study


def priced(points):
    rows = [row(quality, method=f"m{place}", seed=0) for place, (_, quality) in enumerate(points)]
    return [made | {"cost": {"seconds": cost}} for made, (cost, _) in zip(rows, points, strict=True)]


def test_a_data_efficiency_curve_has_the_mean_and_interval_of_each_number_of_rows():
    rows = study({"lora": 0.9, "full": 0.8}, counts=(1000, 100))
    lora, full = data_efficiency(rows, axis="labelled").curves
    assert (lora.name, full.name) == ("lora", "full")
    assert [point.x for point in lora.points] == [100, 1000]
    values = [each["metrics"]["accuracy"] for each in rows if each["config"]["method"] == "lora"][:5]
    assert lora.points[1].values == tuple(values)
    assert lora.points[1].interval == t_interval(values)


def test_learning_rates_are_chosen_anew_for_each_number_of_rows():
    rows = [
        row(test, validation=validation, method="lora", labelled=count, lr=rate, seed=0)
        for count, rate, validation, test in (
            (10, 0.1, 0.9, 0.5),
            (10, 1.0, 0.1, 0.9),
            (100, 0.1, 0.1, 0.7),
            (100, 1.0, 0.9, 0.6),
        )
    ]
    (curve,) = data_efficiency(rows, axis="labelled", equalise=("lr",)).curves
    assert [point.mean for point in curve.points] == [0.5, 0.6]


def test_diverged_runs_are_counted_apart():
    rows = [row(value, method="lora", labelled=10, seed=seed) for seed, value in enumerate((0.5, None))]
    (point,) = data_efficiency(rows, axis="labelled").curves[0].points
    assert (point.mean, point.interval, point.diverged) == (0.5, None, 1)


def test_learning_curves_follow_a_value_over_the_steps_that_logged_it():
    rows = study({"lora": 0.9, "full": 0.8}, seeds=2)
    lora, _ = learning_curves(rows, "test/accuracy").curves
    assert [point.x for point in lora.points] == [50, 100, 150, 200, 250, 300]
    assert lora.points[0].values == tuple(rows[seed]["curve"][4]["test/accuracy"] for seed in range(2))
    assert len(learning_curves(rows).curves[0].points) == 30


def test_the_front_by_hand():
    points = [(1, 0.5), (2, 0.4), (2, 0.7), (3, 0.7), (4, 0.9)]
    assert [point.on_front for point in cost_front(priced(points), cost="seconds").points] == [
        True,
        False,
        True,
        False,
        True,
    ]
    smaller = cost_front(priced(points), cost="seconds", maximise=False)
    assert [point.on_front for point in smaller.points] == [True, True, False, False, False]


def test_a_group_that_diverged_is_never_on_the_front_and_beats_nobody():
    rows = [*priced([(2, 0.5)]), row(0.9, method="wild", seed=0), row(None, method="wild", seed=1)]
    rows[1]["cost"] = rows[2]["cost"] = {"seconds": 1.0}
    assert [(point.name, point.on_front) for point in cost_front(rows, cost="seconds").points] == [
        ("m0", True),
        ("wild", False),
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_the_front_is_what_no_other_group_beats(points):
    marks = [point.on_front for point in cost_front(priced(points), cost="seconds").points]
    assert any(marks)
    for place, (cost, quality) in enumerate(points):
        beaten = any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)
        assert marks[place] is not beaten


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda rows: data_efficiency(rows, axis="labeled"), "no run has a field 'labeled'.*nearest: labelled"),
        (lambda rows: data_efficiency(rows, axis="method", by=("labelled",)), "'method' has to hold numbers"),
        (lambda rows: cost_front(rows, cost="flop"), "no run has a cost 'flop'.*nearest: flops"),
        (lambda rows: learning_curves(rows, "los"), "no learning curve has a value 'los'.*nearest: loss"),
        (lambda rows: data_efficiency([], axis="labelled"), "there are no rows"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, words):
    with pytest.raises(ft.InputError, match=words):
        call(study({"lora": 0.9}, seeds=2))


def test_a_cost_that_was_not_measured_in_some_run_is_refused():
    rows = study({"lora": 0.9}, seeds=2)
    rows[0]["cost"]["seconds"] = None
    with pytest.raises(ft.InputError, match="'lora' has runs whose 'seconds' was not measured"):
        cost_front(rows, cost="seconds")


def test_a_masked_rank_says_whose_cost_it_has():
    rows = study({"low": 0.8, "high": 0.9}, seeds=2)
    for each in rows:
        each["config"]["rank"] = {"low": 1, "high": 16}[each["config"]["method"]]
        each["program"] = {"masked": {"rank": 16}}
        each["cost"] = {"flops": 100.0, "trained_parameters": 10.0 * each["config"]["rank"]}
    flops = cost_front(rows, cost="flops", by=("rank",))
    assert [(point.by["rank"], point.cost_of) for point in flops.points] == [(1, {"rank": 16}), (16, {})]
    assert b"rank 1 (cost: rank 16)" in front_picture(flops)
    own = cost_front(rows, cost="trained_parameters", by=("rank",))
    assert [point.cost_of for point in own.points] == [{}, {}]
    whole = cost_front(rows, cost="flops")
    assert [point.cost_of for point in whole.points] == [{}, {}], "the groups are of no rank"
