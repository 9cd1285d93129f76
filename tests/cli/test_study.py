"""`jaxft study status`: what has a row, who does what, and what nobody does."""

from __future__ import annotations

import json
import os

import pytest

from jaxft.study.claims import Claims
from jaxft.study.store import Store
from tests.cli.test_bad_input import check_refusal


@pytest.fixture
def study(tmp_path):
    """Six runs: one finished, one diverged, one row of older code; claims are up to the test."""
    planned = {f"{lr}-{seed}": {"lr": lr, "seed": seed} for lr in (0.1, 0.2) for seed in range(3)}
    axes = {"lr": [0.1, 0.2], "seed": [0, 1, 2]}
    store = Store.open(tmp_path / "study", name="digits", fields=["lr", "seed"], axes=axes, planned=planned)
    for key, status in {"0.1-0": "finished", "0.1-1": "diverged", "old": "finished"}.items():
        store.add({"key": key, "config": {"lr": 0.1, "seed": 0}, "metrics": {}, "status": status})
    return store.directory


def test_each_run_is_counted_once_in_its_state(study, jaxft):
    with Claims(study, worker="here") as ours, Claims(study, stale=5.0, worker="away") as theirs:
        ours.take(["0.1-2", "0.1-0"])
        theirs.take(["0.2-0"])
        os.utime(study / "claims/0.2-0", (1, 1))
        ended = jaxft("study", "status", study, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    runs = found.pop("runs")
    counts = {"planned": 6, "finished": 1, "diverged": 1, "under way": 1, "stale": 1, "missing": 2, "unplanned": 1}
    assert found == {"name": "digits", **counts, "damaged": []}
    states = {run["key"]: (run["state"], run.get("worker")) for run in runs}
    assert states["0.1-2"] == ("under way", "here")
    assert states["0.2-0"] == ("stale", "away")
    assert states["0.2-1"] == ("missing", None)
    assert runs[2]["pid"] == os.getpid()
    assert runs[2]["config"] == {"lr": 0.1, "seed": 2}


def test_the_tables_show_each_value_of_each_axis_and_who_works(study, jaxft):
    with Claims(study, worker="here") as ours:
        ours.take(["0.1-2"])
        ended = jaxft("study", "status", study)
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["lr=0.1", "3", "1", "1", "1", "0", "0"] in lines
    assert ["seed=2", "2", "0", "0", "1", "0", "1"] in lines
    assert ["all", "6", "1", "1", "1", "0", "3"] in lines
    assert "study digits; 1 more rows, of older code or data" in " ".join(ended.out.split())
    assert any(line[:3] == ["here", "under", "way"] and line[-2:] == ["lr=0.1", "seed=2"] for line in lines)


def test_an_axis_counts_the_runs_it_means_something_to(tmp_path, jaxft):
    parts: list[dict[str, tuple[object, ...]]] = [{"method": ("full",)}, {"method": ("lora",), "rank": (1, 8)}]
    configs = [{"method": "full", "rank": 8}, {"method": "lora", "rank": 1}, {"method": "lora", "rank": 8}]
    axes = {"method": ["full", "lora"], "rank": [1, 8]}
    planned = {str(place): config for place, config in enumerate(configs)}
    study = {"name": "digits", "fields": ["method", "rank"], "axes": axes, "planned": planned}
    Store.open(tmp_path / "study", **study, parts=parts[:1])
    Store.open(tmp_path / "study", **study, parts=parts)
    lines = [line.split() for line in jaxft("study", "status", tmp_path / "study").out.splitlines()]
    for counted in (["rank=1", "1"], ["rank=8", "1"], ['method="full"', "1"], ['method="lora"', "2"], ["all", "3"]):
        assert counted in [line[:2] for line in lines]


def test_nothing_is_written_by_looking(study, jaxft):
    before = sorted(study.rglob("*"))
    assert jaxft("study", "status", study).code == 0
    assert sorted(study.rglob("*")) == before


def test_a_damaged_row_is_counted_and_named(study, jaxft):
    (study / "rows/0.2-0.json").write_text('{"key": "0.2-0", "config": {"lr": 0.2, "seed": 0}}')
    (study / "rows/0.2-1.json").mkdir()
    for _ in range(2):
        ended = jaxft("study", "status", study)
        assert ended.code == 0, ended.err
        said = "damaged or incomplete rows, which count as not run (2): rows/0.2-0.damaged, rows/0.2-1.damaged"
        assert said in " ".join(ended.out.split())
    assert (study / "rows/0.2-1.damaged").is_dir()


def test_a_directory_without_a_study_is_named(tmp_path, jaxft):
    check_refusal(jaxft("study", "status", tmp_path), f"{tmp_path} holds no study", "study.json")
    check_refusal(jaxft("study", "status", tmp_path / "none"), f"there is no directory {tmp_path / 'none'}")
