"""A study on a Ray cluster, one node of which dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxft as ft
from jaxft.study import cluster
from tests.study import digits

ROOT = Path(__file__).parents[2]
RUNS = 32


@pytest.mark.slow
def test_nothing_is_lost_when_a_node_is_killed_mid_study(tmp_path):
    command = [sys.executable, "-m", "tests.study.on_ray", str(tmp_path / "study"), str(RUNS)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "killed" in done.stdout
    assert f"{RUNS} rows" in done.stdout
    rows = ft.read_rows(tmp_path / "study", flat=False)
    settings = [(row["config"]["lr"], row["config"]["seed"]) for row in rows]
    assert len(rows) == len(set(settings)) == RUNS
    assert sorted(settings) == sorted((c.lr, c.seed) for c in digits.grid(RUNS).configs(digits.Config()))
    assert not list((tmp_path / "study/claims").iterdir())
    alone = ft.run_study(digits.build, digits.Config(steps=3000), digits.grid(RUNS), directory=tmp_path / "alone")
    measured = [(row["config"], row["provenance"]["bits"]) for row in rows]
    assert measured == [(row["config"], row["provenance"]["bits"]) for row in alone]


def test_a_missing_ray_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ft.InputError, match=r"pip install 'jaxft\[ray\]'"):
        cluster.run_on_ray(digits.build, digits.Config(), digits.grid(4), directory=tmp_path)


def test_a_node_with_other_sources_of_jaxft_does_nothing():
    with pytest.raises(ft.InputError, match="other sources of jaxft"):
        cluster._work("another", digits.build, [], {})
