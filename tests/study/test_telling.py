"""Writers hear of every row, though processes are killed and writers fail in between."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import jaxft as ft
from jaxft.study.claims import Claims
from tests.study import digits

ROOT = Path(__file__).parents[2]
GRID = ft.grid(seed=range(2))
KILLED = """
import os, signal, sys
import jaxft as ft
from tests.study import digits

class Killed:
    def log(self, figures):
        os.kill(os.getpid(), signal.SIGKILL)

grid, given = ft.grid(seed=range(2)), {"directory": sys.argv[1], "name": "digits", "writers": [Killed()]}
ft.run_study(digits.build, digits.Config(), grid, **given)
"""


class Kept:
    def __init__(self):
        self.figures = []

    def log(self, figures):
        self.figures.append(figures)

    def told(self):
        """The runs whose final figures came, each as often as they did."""
        return sorted(figures["run"] for figures in self.figures if "final/accuracy" in figures)


def study(directory, *writers):
    return ft.run_study(digits.build, digits.Config(), GRID, directory=directory, name="digits", writers=writers)


def test_what_a_killed_process_left_untold_is_told_by_the_next(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    (row,) = (tmp_path / "rows").iterdir()
    assert [note.name for note in (tmp_path / "untold").iterdir()] == [row.stem]
    kept = Kept()
    rows = study(tmp_path, kept)
    assert kept.told() == sorted(row["key"] for row in rows)
    assert len(rows) == 2
    assert not list((tmp_path / "untold").iterdir())
    again = Kept()
    study(tmp_path, again)
    assert again.figures == []


def test_what_a_writer_refused_is_told_when_it_takes_figures_again(tmp_path, caplog):
    class Away:
        def log(self, figures):
            raise ConnectionError("the tracker is away")

    beside = Kept()
    with caplog.at_level(logging.WARNING):
        rows = study(tmp_path, Away(), beside)
    keys = sorted(row["key"] for row in rows)
    assert len(keys) == 2, "a study survives its writers"
    assert set(beside.told()) == set(keys)
    assert caplog.text.count("a writer, Away, failed (ConnectionError: the tracker is away)") == 1
    study(tmp_path)  # without writers the notes stay
    kept = Kept()
    study(tmp_path, kept)
    assert kept.told() == keys


def test_a_row_that_another_process_is_telling_of_is_left_to_it(tmp_path):
    key = study(tmp_path)[0]["key"]
    (tmp_path / "untold").mkdir()
    (tmp_path / "untold" / key).touch()
    kept = Kept()
    with Claims(tmp_path) as theirs:
        assert theirs.take([key]) == [key]
        study(tmp_path, kept)
        assert kept.figures == []
    study(tmp_path, kept)
    assert kept.told() == [key]
