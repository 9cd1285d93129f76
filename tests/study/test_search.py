"""Searches: what is asked for, what is told, what is kept, and that each structure is compiled once."""

from __future__ import annotations

import importlib
import sys

import optuna
import pytest

import jaxft as ft
from jaxft.study.search import choices, log_uniform, search, uniform
from tests.study import digits

SPACE = {"lr": log_uniform(1e-3, 1e1), "method": choices("full", "lora")}


class Compiled:
    """Counts the programs a search compiles, and the runs of each of its calls."""

    def __init__(self, monkeypatch):
        from jaxft.study import runner

        self.programs, self.calls = 0, []
        make_program = runner.make_program

        def counted(*given, **options):
            self.programs += 1
            program = make_program(*given, **options)
            return program._replace(call=lambda *given: (self.calls.append(program.lanes), program.call(*given))[1])

        monkeypatch.setattr(runner, "make_program", counted)


def test_a_search_compiles_each_structure_once_and_finds_the_best_of_what_it_tried(tmp_path, monkeypatch):
    compiled = Compiled(monkeypatch)
    found = search(digits.build, digits.Config(), SPACE, trials=12, batch=4, directory=tmp_path, stack="vmap")
    methods = {row["config"]["method"] for row in found.rows}
    assert methods == {"full", "lora"}
    assert compiled.programs == 2
    assert set(compiled.calls) == {4}
    assert len(compiled.calls) <= 6
    told = [(row["validation"]["accuracy"], row["status"]) for row in found.rows]
    assert found.values == [value if status == "finished" else None for value, status in told]
    assert found.best["validation"]["accuracy"] == max(value for value in found.values if value is not None) > 0.5
    assert ft.read_rows(tmp_path, flat=False) != []
    # the sampler asked for other runs once it knew how the first ones did
    assert found.study.trials[-1].params != found.study.trials[0].params
    states = [trial.state for trial in found.study.trials]
    fail, complete = optuna.trial.TrialState.FAIL, optuna.trial.TrialState.COMPLETE
    assert states == [fail if value is None else complete for value in found.values]


def test_a_search_that_was_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = search(digits.build, digits.Config(), SPACE, trials=8, batch=4, directory=tmp_path / "a")
    part = search(digits.build, digits.Config(), SPACE, trials=4, batch=4, directory=tmp_path / "b")
    (tmp_path / "b/rows" / f"{part.rows[1]['key']}.json").unlink()  # the batch was under way
    compiled = Compiled(monkeypatch)
    again = search(digits.build, digits.Config(), SPACE, trials=8, batch=4, directory=tmp_path / "b")
    assert [row["key"] for row in again.rows] == [row["key"] for row in whole.rows]
    assert again.values == whole.values
    assert len(compiled.calls) == 5


def test_a_run_that_diverges_is_told_as_failed_and_never_the_best(tmp_path):
    found = search(
        digits.build,
        digits.Config(),
        {"lr": choices(1e-2, 1e38)},
        trials=8,
        batch=8,
        metric="loss",
        maximise=False,
        directory=tmp_path,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    assert {row["config"]["lr"]: row["status"] for row in found.rows} == {1e-2: "finished", 1e38: "diverged"}
    assert found.best["config"]["lr"] == 1e-2


def test_settings_are_not_chosen_on_test_rows_unless_one_says_so(tmp_path):
    space = {"lr": log_uniform(1e-3, 1.0)}
    with pytest.raises(ft.InputError, match=r"no validation rows.*part='test'"):
        search(digits.without_validation, digits.Config(), space, trials=2, directory=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    found = search(
        digits.without_validation, digits.Config(), space, trials=2, batch=2, directory=tmp_path / "b", part="test"
    )
    assert found.values == [row["metrics"]["accuracy"] for row in found.rows]


def test_whole_numbers_and_masked_ranks(tmp_path, monkeypatch):
    compiled = Compiled(monkeypatch)
    config = digits.Config(method="lora")
    found = search(digits.build, config, {"rank": ft.masked(1, 2, 4)}, trials=4, batch=4, directory=tmp_path)
    assert {row["config"]["rank"] for row in found.rows} <= {1, 2, 4}
    assert compiled.programs == 1
    asked = importlib.import_module("jaxft.study.search")._distributions(optuna, config, {"rank": uniform(1, 4)})
    assert asked == {"rank": optuna.distributions.IntDistribution(1, 4)}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"learning": uniform(0, 1)}, "'learning' is no field of Config; nearest: "),
        ({"lr": (0.1, 1.0)}, r"uniform\(low, high\), .* but is \(0.1, 1.0\)"),
        ({"rank": uniform(0.5, 2)}, "rank is an int"),
        ({"method": uniform(0, 1)}, r"method is a str, which has no interval: use choices"),
        ({"method": choices("full", 3)}, "method is a str"),
        ({}, "it is empty"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(tmp_path, space, said):
    with pytest.raises(ft.InputError, match=said):
        search(digits.build, digits.Config(), space, trials=2, directory=tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(("make", "said"), [(uniform, "a smaller number"), (log_uniform, "positive")])
def test_intervals_are_checked(make, said):
    with pytest.raises(ft.InputError, match=said):
        make(0, 0)


def test_counts_and_metrics_are_checked(tmp_path):
    for wrong in ({"trials": 0}, {"trials": 2, "batch": 0}):
        with pytest.raises(ft.InputError, match="whole number from 1 up"):
            search(digits.build, digits.Config(), SPACE, directory=tmp_path, **wrong)
    row = {"status": "finished", "validation": {"accuracy": 0.5}}
    with pytest.raises(ft.InputError, match="no 'acuracy'; nearest: accuracy"):
        importlib.import_module("jaxft.study.search")._value(row, "validation", "acuracy")


def test_a_missing_optuna_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ft.InputError, match=r"pip install 'jaxft\[search\]'"):
        search(digits.build, digits.Config(), SPACE, trials=2, directory=tmp_path)
