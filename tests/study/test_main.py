"""Settings as flags, axes and columns; what a study leaves to read; how it ends when something is wrong."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import jaxft as ft
from jaxft.study.flags import with_values
from tests.study import small_study
from tests.study.small_study import WHOLE, Config, build

ROOT = Path(__file__).parents[2]
REPORT = {"table.md", "table.tex", "table.csv", "runs.csv", "index.html", "comparison.svg", "comparison.png"}
REPORT |= {"learning_curves.svg", "learning_curves.png", "cost_seconds.svg", "cost_trained_parameters.png"}


def study(directory: Path, *words: str, **options) -> list[dict]:
    return ft.main(Config, build, grid=WHOLE, directory=directory, arguments=words, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "study"
    return directory, study(directory)


def test_a_study_leaves_tables_pictures_and_a_page(finished):
    directory, rows = finished
    assert len(rows) == 9
    assert {path.name for path in (directory / "report").iterdir()} >= REPORT
    with (directory / "report" / "runs.csv").open(newline="") as file:
        assert {line["key"] for line in csv.DictReader(file)} == {row["key"] for row in rows}
    with (directory / "report" / "table.csv").open(newline="") as file:
        groups = [(line["method"], line["rank"], line["n"]) for line in csv.DictReader(file)]
    assert groups == [("full", "", "3"), ("lora", "1", "3"), ("lora", "4", "3")], "full has no rank"
    assert "toprule" in (directory / "report" / "table.tex").read_text()
    assert "small_study" in (directory / "report" / "index.html").read_text()


def test_the_table_is_printed_and_finished_runs_are_not_done_again(finished, capsys):
    directory, rows = finished
    files = {path: path.stat().st_mtime_ns for path in (directory / "rows").iterdir()}
    again = study(directory)
    assert again == rows
    assert files == {path: path.stat().st_mtime_ns for path in (directory / "rows").iterdir()}
    said = capsys.readouterr()
    assert said.out == (directory / "report" / "table.md").read_text() + "\n"
    assert "9 runs in 2 groups, 9 done" in said.err


def test_flags_choose_among_the_runs(finished):
    directory, rows = finished
    chosen = study(directory, "--method", "lora", "--rank", "4", "--seed", "0", "2", "--metric", "loss")
    assert [(row["config"]["rank"], row["config"]["seed"]) for row in chosen] == [(4, 0), (4, 2)]
    assert all(row in rows for row in chosen)
    assert "Loss on the test data, smaller is better" in (directory / "report" / "table.md").read_text()
    study(directory)


def test_list_shows_the_state_of_every_run_and_does_none(finished, capsys):
    directory, _ = finished
    assert study(directory, "--list", "--seed", "0", "7") == []
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["method", "rank", "seed", "state"]
    assert lines[1:3] == [["full", "2", "0", "finished"], ["full", "2", "7", "missing"]]
    assert len(lines) == 7
    assert study(directory.with_name("new"), "--list") == []
    assert not directory.with_name("new").exists()


def test_list_and_a_run_agree_after_the_data_changed(tmp_path, capsys, caplog):
    moved = []

    def changing(c: Config) -> ft.Experiment:
        one = build(c)
        rows = {name: {**part, "x": part["x"] + len(moved)} for name, part in one.data.items()}
        return one._replace(data=rows)

    def run(*words: str) -> list[dict]:
        words = ("--method", "full", "--seed", "0", "1", *words)
        return ft.main(Config, changing, grid=WHOLE, directory=tmp_path / "study", arguments=words)

    first = run()
    run("--list")
    assert capsys.readouterr().out.splitlines()[-1].split() == ["1", "finished"]
    moved.append("on")
    run("--list")
    assert capsys.readouterr().out.splitlines()[-1].split() == ["1", "missing"]
    second = run()
    assert not {row["key"] for row in first} & {row["key"] for row in second}
    rows = ft.study.read_rows(tmp_path / "study")
    assert {row["key"] for row in rows if row["planned"]} == {row["key"] for row in second}
    assert "2 of the 4 rows" in caplog.text


def test_settings_are_equalised_on_validation_rows(tmp_path):
    words = ("--method", "full", "--lr", "1e-4", "1e-2", "--seed", "0", "1", "--equalise", "lr")
    study(tmp_path / "study", *words)
    with (tmp_path / "study" / "report" / "table.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert (line["chosen_lr"], line["n"]) == ("0.01", "2")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--method", "lroa"), "none has lroa; nearest: lora"),
        (("--structure", "lrr"), "structure names 'lrr', which is no field of the settings; nearest: lr"),
        (("--equalise", "lrr"), "equalise names 'lrr'"),
        (("--metric", "acuracy"), "the runs have no metric 'acuracy'; nearest: accuracy"),
        (("--memory-limit", "0"), "--memory-limit expects a whole number of MiB from 1 up, but got 0"),
        (("--memory-limit", "-5"), "--memory-limit expects a whole number of MiB from 1 up, but got -5"),
        (("--rank",), "--rank expects a value"),
        (("--rank", "0", "--method", "lora"), "rank of at least 1"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, capsys, words, sentence):
    with pytest.raises(SystemExit) as end:
        study(tmp_path / "study", *words)
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert sentence in said
    assert not list((tmp_path / "study").glob("rows/*"))


def test_settings_without_validation_rows_are_refused_before_the_first_run(tmp_path, capsys):
    def without(c: Config) -> ft.Experiment:
        one = build(c)
        return one._replace(data={name: one.data[name] for name in ("train", "test")})

    words = ("--method", "full", "--lr", "1e-3", "1e-2", "--equalise", "lr")
    with pytest.raises(SystemExit):
        ft.main(Config, without, grid=WHOLE, directory=tmp_path / "study", arguments=words)
    assert "lr is to be chosen on validation rows, but the experiment has none" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_field_with_the_name_of_an_option_is_refused(capsys):
    @dataclass(frozen=True)
    class Taken:
        directory: str = "."

    with pytest.raises(SystemExit):
        ft.main(Taken, build, arguments=[])
    assert "Taken.directory cannot be a flag" in capsys.readouterr().err


def test_a_field_without_a_default_is_an_axis_or_a_flag(tmp_path, capsys):
    @dataclass(frozen=True)
    class Bare:
        method: str
        seed: int = 0

    with pytest.raises(SystemExit):
        ft.main(Bare, build, arguments=["--list"], directory=tmp_path)
    assert "method has no default: say --method" in capsys.readouterr().err
    ft.main(Bare, build, arguments=["--list", "--method", "full"], directory=tmp_path)
    assert "full" in capsys.readouterr().out


def test_values_take_the_place_of_those_of_the_axes_that_name_them():
    parts = with_values(WHOLE, {"rank": (8,), "lr": (1e-3, 1e-2)}).parts
    assert [dict(part) for part in parts] == [
        {"method": ("full",), "seed": (0, 1, 2), "lr": (1e-3, 1e-2)},
        {"method": ("lora",), "rank": (8,), "seed": (0, 1, 2), "lr": (1e-3, 1e-2)},
    ]
    assert with_values(WHOLE, {"rank": (8,)}).masked == {"rank": 8}
    assert len(with_values(WHOLE, {"method": ("full",)}).parts) == 1


def test_a_script_is_a_study_beside_itself(tmp_path):
    script = tmp_path / "small.py"
    script.write_text(Path(small_study.__file__).read_text(encoding="utf-8"), encoding="utf-8")

    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "small.py", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    helped = run("--help")
    assert helped.returncode == 0, helped.stderr
    for said in (
        "Which rank does a small net need?",
        "what learns (grid: full lora)",
        "Of LoRA's updates. (grid: 1 4)",
    ):
        assert said in " ".join(helped.stdout.replace("│", " ").split())
    done = run("--method", "full", "--seed", "0")
    assert done.returncode == 0, done.stderr
    assert "| accuracy |" in done.stdout
    assert "1 of 1 done" in done.stderr
    assert len(list((tmp_path / "results" / "small" / "rows").glob("*.json"))) == 1
    wrong = run("--seed", "one")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
