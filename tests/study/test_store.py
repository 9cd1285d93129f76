"""Rows: written once, whole, readable by pandas and DuckDB; directories of other studies are refused."""

from __future__ import annotations

import errno
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from jaxft.errors import InputError
from jaxft.study.store import Store, read_rows


def row(key, lr=0.1, seed=0, **more):
    metrics = {"accuracy": 0.9 + seed / 100}
    whole = {"key": key, "config": {"lr": lr, "seed": seed}, "metrics": metrics, "curve": [{"step": 1, "loss": 0.5}]}
    return {**whole, "provenance": {"versions": {"jax": "1"}}, "status": "finished", **more}


def opened(place, **changes):
    study = {"name": "digits", "fields": ["lr", "seed"], "axes": {"lr": [0.1], "seed": [0]}}
    return Store.open(place, **{**study, "planned": {"a": {"lr": 0.1, "seed": 0}}, **changes})


def test_the_first_row_of_a_run_stays(tmp_path):
    store = opened(tmp_path / "study")
    assert store.add(row("a"))
    before = (tmp_path / "study/rows/a.json").read_bytes()
    assert not store.add(row("a", metrics={"accuracy": 0.1}))
    assert (tmp_path / "study/rows/a.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "study/rows").iterdir()] == ["a.json"]
    assert store.finished() == {"a"}


def test_a_run_is_looked_up_without_listing_the_others(tmp_path, monkeypatch):
    store = opened(tmp_path)
    Store(tmp_path).add(row("b"))  # as another process does
    monkeypatch.setattr(Path, "glob", None)
    monkeypatch.setattr(Path, "iterdir", None)
    assert not store.has("a")
    assert store.has("b")
    store.add(row("a"))
    assert store.known == {"a", "b"}
    assert store.row("b") == row("b")
    assert store.row("c") is None


def test_numbers_that_are_not_finite_become_null(tmp_path):
    store = opened(tmp_path)
    store.add(row("a", metrics={"loss": math.nan}, curve=({"step": 1, "loss": math.inf},), status="diverged"))
    (read,) = store.rows()
    assert read["metrics"] == {"loss": None}
    assert read["curve"] == [{"step": 1, "loss": None}]


def test_rows_come_in_the_order_of_their_configs(tmp_path):
    store = opened(tmp_path)
    runs = {"d": (0.01, 10), "c": (0.01, 2), "b": (1, 0), "a": ("auto", 0), "f": (None, 1), "e": (0.01, 2)}
    for key, (lr, seed) in runs.items():
        store.add(row(key, lr=lr, seed=seed))
    assert [each["key"] for each in store.rows()] == ["f", "c", "e", "d", "b", "a"]


def test_pandas_and_duckdb_read_the_rows(tmp_path):
    store = opened(tmp_path)
    store.add(row("a", seed=0))
    store.add(row("b", lr=0.2, seed=1, validation={"accuracy": 0.8}, metrics={"accuracy": None}))
    frame = pd.DataFrame(read_rows(tmp_path)).set_index("key")
    assert frame["config.lr"].to_dict() == {"a": 0.1, "b": 0.2}
    assert frame["metrics.accuracy"]["a"] == 0.9
    assert frame[["metrics.accuracy", "validation.accuracy"]].isna().to_numpy().tolist() == [
        [False, True],
        [True, False],
    ]
    assert set(frame["provenance.versions.jax"]) == {"1"}
    assert read_rows(tmp_path, flat=False)[0] == row("a")
    with duckdb.connect() as connection:
        files = f"'{tmp_path}/rows/*.json'"
        found = connection.sql(
            f"SELECT config.lr, metrics.accuracy, curve[1].loss FROM read_json_auto({files}) ORDER BY 1"
        )
        assert found.fetchall() == [(0.1, 0.9, 0.5), (0.2, None, 0.5)]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b'{"key": "a", "conf', b"[]", b'{"key": "b", "config": {}, "metrics": {}}', b"\xff\x00"),
        *(b'{"key": "a", "config": {}}', b'{"key": "a", "config": {}, "metrics": null}'),
        b'{"key": "a", "config": {}, "metrics": {"accuracy": "high"}}',
        b'{"key": "a", "config": {}, "metrics": {}, "curve": [{"loss": 1}]}',
    ],
)
def test_a_damaged_row_is_set_aside_and_its_run_is_done_again(tmp_path, content, caplog):
    opened(tmp_path).add(row("b"))
    (tmp_path / "rows/a.json").write_bytes(content)
    store = Store(tmp_path)
    assert store.finished() == {"b"}
    assert "a.json is damaged or incomplete: it is now a.damaged" in caplog.text
    assert (tmp_path / "rows/a.damaged").read_bytes() == content
    assert store.add(row("a"))
    assert [each["key"] for each in store.rows()] == ["a", "b"]


def test_a_directory_named_like_a_row_is_set_aside(tmp_path, caplog):
    store = opened(tmp_path)
    store.add(row("b"))
    (tmp_path / "rows/a.json").mkdir()
    assert store.rows() == [row("b")]
    assert "a.json is damaged" in caplog.text
    assert store.add(row("a"))
    assert store.damaged() == [tmp_path / "rows/a.damaged"]


def test_nothing_that_was_set_aside_is_overwritten(tmp_path):
    store = opened(tmp_path)
    for content in ("one", "two"):
        (tmp_path / "rows/a.json").write_text(content)
        store.finished()
    assert sorted(path.read_text() for path in store.damaged()) == ["one", "two"]


def test_a_damaged_row_does_not_stop_a_good_one(tmp_path):
    store = opened(tmp_path)
    (tmp_path / "rows/a.json").touch()
    assert store.add(row("a"))
    assert store.rows() == [row("a")]


def test_a_good_row_that_comes_while_a_damaged_one_is_set_aside_is_kept(tmp_path, monkeypatch):
    store = opened(tmp_path)
    path = tmp_path / "rows/a.json"
    path.touch()
    rename = os.rename

    def late(source, target):
        path.write_text(json.dumps(row("a")))
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    store.finished()
    monkeypatch.undo()
    assert store.rows() == [row("a")]


def test_a_directory_that_cannot_be_written_can_be_read(tmp_path, monkeypatch, caplog):
    opened(tmp_path).add(row("b"))
    (tmp_path / "rows/a.json").touch()

    def refuse(*paths):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    assert [each["key"] for each in Store(tmp_path).rows()] == ["b"]
    assert "stays where it is (Permission denied)" in caplog.text


def test_a_directory_that_cannot_be_written_is_refused_for_a_study():
    with pytest.raises(InputError, match="cannot write /proc/study"):
        opened("/proc/study")


def test_the_same_study_may_grow_and_nothing_is_forgotten(tmp_path):
    store = opened(tmp_path)
    store.add(row("a"))
    opened(tmp_path, axes={"lr": [0.1, 0.2], "seed": [0]}, planned={"b": {"lr": 0.2, "seed": 0}})
    assert opened(tmp_path).plan.axes == {"lr": [0.1, 0.2], "seed": [0]}
    assert Store(tmp_path).plan.planned == {"a": {"lr": 0.1, "seed": 0}, "b": {"lr": 0.2, "seed": 0}}
    assert Store(tmp_path).finished() == {"a"}


def test_a_config_of_newer_code_takes_the_place_of_the_older(tmp_path):
    opened(tmp_path)
    assert opened(tmp_path, planned={"new": {"seed": 0, "lr": 0.1}}).plan.planned == {"new": {"seed": 0, "lr": 0.1}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "letters"}, "holds the study 'digits', and this one is 'letters'"),
        ({"fields": ["lr"]}, "its seed is not known here; choose another"),
    ],
)
def test_the_directory_of_another_study_is_refused(tmp_path, changes, said):
    opened(tmp_path)
    before = (tmp_path / "study.json").read_bytes()
    with pytest.raises(InputError, match=said):
        opened(tmp_path, **changes)
    assert (tmp_path / "study.json").read_bytes() == before


def test_a_field_that_came_later_leaves_the_rows_and_plans_the_new_runs(tmp_path, caplog):
    opened(tmp_path).add({"key": "a", "config": {"lr": 0.1, "seed": 0}, "metrics": {}})
    later = {"lr": 0.1, "rank": 2, "seed": 0}
    store = opened(tmp_path, fields=list(later), planned={"b": later})
    assert "have no rank, which came later" in caplog.text
    assert (store.finished(), store.plan.planned, store.plan.fields) == ({"a"}, {"b": later}, list(later))
    assert [row["planned"] for row in read_rows(tmp_path)] == [False]


def test_a_lost_description_is_written_anew_and_the_rows_stay(tmp_path):
    opened(tmp_path).add({"key": "a", "config": {"lr": 0.1, "seed": 0}, "metrics": {}})
    (tmp_path / "untold").mkdir()
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(InputError, match="delete it and run the study again, which writes it anew and keeps the rows"):
        Store(tmp_path)
    (tmp_path / "study.json").unlink()
    assert opened(tmp_path).finished() == {"a"}


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "free some space and give the same command"), (errno.EPERM, "on a file system with hard links")],
)
def test_a_row_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch, number, said):
    store = opened(tmp_path)

    def failing(*names):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link" if number == errno.EPERM else "fsync", failing)
    with pytest.raises(InputError, match=said):
        store.add({"key": "a", "config": {"lr": 0.1, "seed": 0}, "metrics": {"accuracy": 0.5}})
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "rows").iterdir()] == []


def test_a_directory_of_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds no study but other files, such as thesis\.tex"):
        opened(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        opened(tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("content", "said"), [("[]", "must hold a JSON object"), ("{}", "no study of this version"), ("", "not valid JSON")]
)
def test_a_description_that_is_none_is_refused(tmp_path, content, said):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(InputError, match=said):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"config": {}, "metrics": {}}, "a row has"),
        ({"key": "a", "config": {}}, "a row has"),
        ({"key": "a", "config": {"f": print}, "metrics": {}}, "cannot be written as JSON"),
    ],
)
def test_a_row_that_cannot_be_kept_is_refused(tmp_path, bad, said):
    store = opened(tmp_path)
    with pytest.raises(InputError, match=said):
        store.add(bad)
    assert store.rows() == []


def test_half_written_rows_of_killed_processes_are_swept_when_they_are_old(tmp_path):
    store = opened(tmp_path)
    for name in (".old.partial", ".new.partial"):
        (tmp_path / "rows" / name).write_text('{"key": "a"')
    os.utime(tmp_path / "rows/.old.partial", (1, 1))
    assert store.finished() == set()
    opened(tmp_path)
    assert [path.name for path in (tmp_path / "rows").iterdir()] == [".new.partial"]


def grow(place, number):
    for seed in range(number * 10, number * 10 + 10):
        opened(place, axes={"seed": [seed]}, planned={str(seed): {"seed": seed}})


def test_plans_that_grow_at_once_lose_nothing(tmp_path):
    grow(tmp_path, 9)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(grow, [tmp_path] * 3, range(3)))
    plan = Store(tmp_path).plan
    assert len(plan.planned) == 40
    assert len(plan.axes["seed"]) == 40
