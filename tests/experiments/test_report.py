"""What experiments share writes what it is given: options, tables, figures of several seeds."""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np
import pytest

from experiments import report
from experiments.disflqa_spans import baselines, figures
from jaxft.data import Table
from jaxft.metrics import answer_metrics, wilson_interval


@dataclass(frozen=True)
class Config:
    rows: int = 10
    seeds: tuple[int, ...] = (0,)
    check: bool = False
    max_length: int = 8


def test_a_command_has_what_differs_from_the_defaults():
    assert report.command("/elsewhere/why.py", Config()) == "python experiments/why.py"
    changed = Config(seeds=(1, 2), check=True, max_length=9)
    assert report.command("why.py", changed) == "python experiments/why.py --seeds 1 2 --check --max-length 9"


def test_options_say_everything_a_run_in_its_own_process_needs():
    assert report.flags({"check": False, "name": "", "rates": (1.0, 3.0)}) == [
        "--no-check",
        "--name",
        "",
        "--rates",
        "1.0",
        "3.0",
    ]


def test_a_script_in_a_process_of_its_own_gives_its_last_line(tmp_path):
    script = tmp_path / "one.py"
    script.write_text("import json, sys\nprint('noise')\nprint(json.dumps({'got': sys.argv[1:]}))\n")
    assert report.in_own_process(str(script), {"rows": 3, "name": ""}) == {"got": ["--rows", "3", "--name", ""]}


def test_accuracy_is_the_mean_over_seeds_and_the_interval_that_of_one_test_set():
    rows = [{"correct": correct, "test_rows": 200} for correct in (100, 120)]
    assert report.mean_accuracy(rows) == (0.55, *wilson_interval(110, 200))


def test_runs_are_grouped_in_order_of_appearance():
    rows = [{"method": m, "rate": r} for m, r in (("b", 1), ("a", 1), ("b", 2), ("b", 1))]
    assert list(report.grouped(rows, "method", "rate")) == [("b", 1), ("a", 1), ("b", 2)]
    assert {method: len(own) for method, own in report.by_method(rows).items()} == {"b": 3, "a": 1}


def test_tables_are_read_back(tmp_path):
    assert report.markdown_table(("a", "b"), [("1", "2")]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    report.write_csv(tmp_path / "runs.csv", [{"method": "head", "f1": 0.5}, {"method": "full", "loss": 2}])
    with (tmp_path / "runs.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"method": "head", "f1": "0.5", "loss": ""},
            {"method": "full", "f1": "", "loss": "2"},
        ]


def test_a_picture_is_drawn(tmp_path):
    points = [report.Point("head", 770, 0.6, 0.5, 0.7), report.Point("full", 10**7, 0.8, 0.7, 0.9)]
    report.parameters_picture(points, tmp_path / "a.png", title="a", baseline=("always yes", 0.55))
    report.ranked_picture(points, tmp_path / "b.png", title="b")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_figures_of_answers_have_intervals_that_hold_them():
    answers = [("the red fox",), ("1999",), ("a dog",), ("Rome",)]
    found = figures(["red fox", "1999", "a dog and a cat", "Paris"], answers)
    want = answer_metrics(["red fox", "1999", "a dog and a cat", "Paris"], answers)
    assert found["exact_match"] == want["exact_match"] == 0.5
    assert found["f1"] == pytest.approx(want["f1"])
    assert 0 <= found["f1_low"] < found["f1"] < found["f1_high"] <= 1
    assert (found["exact_match_low"], found["exact_match_high"]) == wilson_interval(2, 4)


def test_baselines_answer_from_the_passage():
    table = Table.of({"context": ["He ran home . She slept ."], "answers": [("He ran home",)]})
    without = baselines(table)
    assert without["the first sentence"]["exact_match"] == 1.0
    assert np.isfinite(without["a random span"]["f1"])


def test_a_page_is_written_with_its_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    report.write_page("why", "# Why\n", [{"a": 1}])
    assert (tmp_path / "results" / "why.md").read_text() == "# Why\n"
    assert (tmp_path / "results" / "why.csv").read_text() == "a\n1\n"
    assert "# Why" in capsys.readouterr().out
