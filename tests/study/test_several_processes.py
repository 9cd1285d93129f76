"""Processes that share a study, as the tasks of a SLURM array do, killed at random and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jaxft as ft
from jaxft.study.status import study_status

ROOT = Path(__file__).parents[2]
PROCESSES = 3
STEPS = 3000
STALE = 5.0
CHANCE = {"seconds", "compile_seconds", "started", "lane", "git", "dirty"}
"""What of a row depends on when and in whose company it was made, a commit in between included."""


def start(directory: Path, runs: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.study.digits", str(directory), str(runs), str(STEPS), str(STALE)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with open(directory.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)


def said_by(directory: Path) -> str:
    return directory.with_suffix(".log").read_text()


def without_chance(value):
    if isinstance(value, dict):
        return {name: without_chance(item) for name, item in value.items() if name not in CHANCE}
    return value


def rows_of(directory: Path) -> list[dict]:
    return [without_chance(row) for row in ft.read_rows(directory, flat=False)]


def killed_at_random(directory: Path, runs: int, kills: int, rng: random.Random) -> int:
    """Runs three processes and kills one of them again and again, one that is doing a run where there is one."""
    processes = [start(directory, runs) for _ in range(PROCESSES)]
    marks = sorted(rng.sample(range(1, runs * 3 // 4), kills))
    done = 0
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(rng.uniform(0.0, 0.02))
            rows = len(list(directory.glob("rows/*.json")))
            if done < kills and rows >= marks[done]:
                working = {run["pid"] for run in study_status(directory).runs if run["state"] == "under way"}
                alive = [place for place, process in enumerate(processes) if process.poll() is None]
                place = rng.choice([place for place in alive if processes[place].pid in working] or alive)
                processes[place].send_signal(signal.SIGKILL)
                processes[place].wait()
                processes[place] = start(directory, runs)
                done += 1
        assert [process.returncode for process in processes] == [0] * PROCESSES, said_by(directory)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return done


@pytest.mark.parametrize(("runs", "kills"), [(24, 2), pytest.param(96, 10, marks=pytest.mark.slow)])
def test_processes_killed_at_random_leave_exactly_the_rows_of_an_unkilled_study(tmp_path, runs, kills):
    assert start(tmp_path / "alone", runs).wait() == 0, said_by(tmp_path / "alone")
    assert killed_at_random(tmp_path / "shared", runs, kills, random.Random(kills)) == kills
    rows = rows_of(tmp_path / "shared")
    assert len(rows) == runs
    assert rows == rows_of(tmp_path / "alone")
    assert sorted(path.name for path in (tmp_path / "shared/rows").glob("[!.]*")) == sorted(
        f"{r['key']}.json" for r in rows
    )
    assert not list((tmp_path / "shared/claims").iterdir())
