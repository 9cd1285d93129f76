"""Real processes, ended at every kind of moment, then resumed: nothing may differ from a run left alone."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from tests.train.processes import run, start, value


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> tuple[str, bytes]:
    directory = tmp_path_factory.mktemp("untouched") / "run"
    code, output, errors = run(directory)
    assert code == 0, errors
    return value(output, "fingerprint"), (directory / "metrics.jsonl").read_bytes()


def assert_resumes_to(directory: Path, untouched: tuple[str, bytes]) -> str:
    code, output, errors = run(directory, "--resume")
    assert code == 0, errors
    assert value(output, "fingerprint") == untouched[0]
    assert (directory / "metrics.jsonl").read_bytes() == untouched[1]
    return errors


def wait_for_lines(directory: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    file = directory / "metrics.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the run wrote nothing"
        time.sleep(0.005)


def test_killed_at_random_moments(tmp_path, untouched):
    directory, chance, kills = tmp_path / "run", random.Random(5), 0
    for lines in (1, 7, 13, 20):
        process = start(directory, "--resume")
        wait_for_lines(directory, lines)
        time.sleep(chance.uniform(0.0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 3
    assert_resumes_to(directory, untouched)


@pytest.mark.parametrize("delay", [0.002, 0.01, 0.02])
def test_killed_while_a_checkpoint_is_written(tmp_path, untouched, delay):
    directory = tmp_path / "run"
    code, _, _ = run(directory, "--die-at", 40, "--delay", delay)
    assert code == -signal.SIGKILL
    assert_resumes_to(directory, untouched)


def test_killed_just_before_a_checkpoint_counts(tmp_path, untouched):
    directory = tmp_path / "run"
    code, _, _ = run(directory, "--die-at", 40)
    assert code == -signal.SIGKILL
    partial = directory / "checkpoints" / "step_00000040"
    assert partial.is_dir()
    assert f"{partial} is not used: it was never finished" in assert_resumes_to(directory, untouched)


def test_sigterm_finishes_the_step_saves_and_says_so(tmp_path, untouched):
    directory = tmp_path / "run"
    process = start(directory)
    wait_for_lines(directory, 6)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGTERM ended the run after step" in errors
    assert "the last good checkpoint is of step" in errors
    said = int(errors.split("after step ")[1].split()[0])
    newest = max((directory / "checkpoints").iterdir())
    assert newest.name == f"step_{said:08d}"
    assert (newest / "manifest.json").exists()
    assert_resumes_to(directory, untouched)


def test_resuming_a_finished_run_changes_nothing(tmp_path, untouched):
    directory = tmp_path / "run"
    assert run(directory)[0] == 0
    before = {file: file.stat().st_mtime_ns for file in (directory / "checkpoints").rglob("*") if file.is_file()}
    assert_resumes_to(directory, untouched)
    assert before == {
        file: file.stat().st_mtime_ns for file in (directory / "checkpoints").rglob("*") if file.is_file()
    }


def test_a_checkpoint_moves_between_eight_devices_and_one(tmp_path, untouched):
    there, back = tmp_path / "there", tmp_path / "back"
    code, output, errors = run(there, "--sharded", devices=8)
    assert code == 0, errors
    eight = [float(loss) for loss in value(output, "losses").split()]
    lines = [json.loads(line) for line in untouched[1].splitlines()]
    one = [line["loss"] for line in lines if "loss" in line]
    assert eight == pytest.approx(one, abs=2e-6)

    assert run(back)[0] == 0

    code, output, errors = run(there, "--resume", "--steps", 160, devices=1)
    assert code == 0, errors
    assert len(value(output, "losses").split()) == 32
    code, output, errors = run(back, "--resume", "--steps", 160, "--sharded", devices=8)
    assert code == 0, errors
    assert len(value(output, "losses").split()) == 32
