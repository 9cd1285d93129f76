"""A run of a study done again, in other processes and from other places."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxft.cli import main as command
from jaxft.errors import InputError
from jaxft.study import read_rows
from jaxft.study.reproduce import reproduce

ROOT = Path(__file__).parents[2]
once = pytest.mark.parametrize("study", ["map"], indirect=True)
WORDS = ("--method", "lora", "--rank", "1", "4", "--seed", "0", "1")


def start(script: Path, *words: str, seconds: float = 0.0) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SECONDS_A_RUN": str(seconds)}
    return subprocess.Popen(
        [sys.executable, script, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_after_a_row(process: subprocess.Popen, directory: Path) -> None:
    until = time.monotonic() + 120
    while not list(directory.glob("rows/*.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module", params=[pytest.param("map", marks=pytest.mark.slow), "vmap"])
def study(request, tmp_path_factory):
    """A study that was killed after its first rows, and resumed; its script is gone."""
    place = tmp_path_factory.mktemp(request.param)
    script = Path(shutil.copy(Path(__file__).with_name("small_study.py"), place / "small.py"))
    directory = place / "results" / "small"
    words = (*WORDS, "--stack", request.param)
    kill_after_a_row(start(script, *words, seconds=60), directory)
    before = {row["key"] for row in read_rows(directory, flat=False)}
    resumed = start(script, *words)
    said = resumed.communicate(timeout=300)[0]
    assert resumed.returncode == 0, said
    script.unlink()
    rows = read_rows(directory, flat=False)
    assert 0 < len(before) < len(rows) == 4
    assert {row["program"]["stack"] for row in rows} == {request.param}
    return directory, before, rows


def test_the_bits_agree_with_those_of_another_process(study, tmp_path, monkeypatch, capfd):
    directory, before, rows = study
    monkeypatch.chdir(tmp_path)
    key = next(row["key"] for row in rows if row["key"] not in before and row["config"]["rank"] == 1)
    assert command(["study", "reproduce", str(directory), key[:10]]) == 0
    said = capfd.readouterr().out
    assert key in said
    assert "the bits agree" in said
    assert "not as it was" not in said


def test_a_run_from_before_the_kill_has_the_same_bits(study):
    directory, before, _ = study
    found = reproduce(directory, min(before))
    assert (found.verdict, found.largest, found.surroundings) == ("bits", None, ())


def copied(study: tuple, place: Path, changes: dict) -> tuple[Path, str]:
    """The study with one row that says something else."""
    directory = shutil.copytree(study[0], place / "copy")
    row = json.loads(json.dumps(study[2][0]))
    for path, value in changes.items():
        *above, name = path.split("/")
        part = row
        for step in above:
            part = part[step]
        part[name] = value
    (directory / "rows" / f"{row['key']}.json").write_text(json.dumps(row))
    return directory, row["key"]


@once
def test_what_differs_is_named(study, tmp_path, capfd):
    loss = study[2][0]["metrics"]["loss"]
    changes = {
        "metrics/loss": loss + 1e-5,
        "provenance/bits": "0" * 64,
        "provenance/versions/optax": "0.0.1",
        "provenance/device": "abacus",
        "provenance/data": "1" * 64,
    }
    directory, key = copied(study, tmp_path, changes)
    assert command(["study", "reproduce", str(directory), key]) == 1
    said = capfd.readouterr().out
    assert "figures agree within float error" in said
    assert f"largest difference: test loss, recorded {loss + 1e-5}" in said
    for named in ("optax: 0.0.1 then", "device: abacus then", "the data are others: 111111111111 then"):
        assert named in said


@once
def test_another_script_gives_other_figures(study, tmp_path):
    other = tmp_path / "small.py"
    source = Path(__file__).with_name("small_study.py").read_text(encoding="utf-8")
    other.write_text(source.replace("optax.adam(c.lr)", "optax.adam(2 * c.lr)"), encoding="utf-8")
    found = reproduce(study[0], study[2][0]["key"], script=other)
    assert found.verdict == "different"
    assert found.largest is not None
    assert found.surroundings == ("small.py: another than that which the study keeps",)


@once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance/build": "outer.<locals>.build"}, "only a function at the top"),
        ({"provenance/script": "gone.py"}, "there is no file"),
    ],
)
def test_a_run_that_cannot_be_found_again_is_refused(study, tmp_path, changes, message):
    directory, key = copied(study, tmp_path, changes)
    with pytest.raises(InputError, match=message):
        reproduce(directory, key)


@once
def test_keys_are_checked(study):
    directory, _, _ = study
    with pytest.raises(InputError, match="begins with 'xyz'"):
        reproduce(directory, "xyz")
    with pytest.raises(InputError, match="begins with ''"):
        reproduce(directory, "")
