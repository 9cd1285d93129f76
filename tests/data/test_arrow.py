"""Parquet files and hub data sets, the latter from a directory that stands in for the hub."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jaxft import InputError
from jaxft.data import read_table

TEXTS = ["2020-01-01", "1", 'a "quoted"\ntext', "🎬"]


def test_parquet_gives_back_texts_and_class_label_names(tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 1, 0]}, features=features)
    data.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert list(table["text"]) == TEXTS
    assert table["label"] == ("neg", "pos", "pos", "neg")


def test_a_missing_label_in_parquet_is_named_by_its_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", "b"], "label": [1.0, float("nan")]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="'label' is missing in row 2 of"):
        read_table(tmp_path / "t.parquet")


def test_a_parquet_without_rows_is_said(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}), tmp_path / "t.parquet"
    )
    with pytest.raises(InputError, match="has columns 'text', 'label' but no rows"):
        read_table(tmp_path / "t.parquet")


def test_a_truncated_parquet_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["a"] * 100, "label": [1] * 100}), path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="damaged or not a Parquet file"):
        read_table(path)


@pytest.fixture
def stand_in(tmp_path, monkeypatch, cache):
    """``datasets`` looks for a name in the working directory before it asks the hub."""
    directory = tmp_path / "reviews"
    directory.mkdir()
    for split in ("train", "test"):
        (directory / f"{split}.jsonl").write_text(f'{{"text": "a {split} text", "label": 1}}\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("source", "split"), [("reviews:default", "train"), ("reviews@test", "test")])
def test_a_data_set_is_read_by_name_configuration_and_split(cache, source, split):
    table = read_table(source)
    assert table["text"] == (f"a {split} text",)
    assert table.source == f"data set {source}"
    assert (cache / "datasets").is_dir()


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("source", ["reviews@validation", "reviews:other", "no-such-data", "owner/no-such-data:x@test"])
def test_a_data_set_that_cannot_be_read_is_named(source):
    with pytest.raises(InputError, match=f"there is no file {source}, and split '(train|test|validation)'") as error:
        read_table(source)
    assert "\n" not in str(error.value)


def test_a_hub_out_of_reach_is_asked_in_silence(monkeypatch, caplog):
    import datasets
    from huggingface_hub.utils import logging

    def load(*_, **__):
        logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 8s")
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(logging.get_logger(), "propagate", True)
    before = logging.get_verbosity()
    with pytest.raises(InputError, match="cannot be read: no route"):
        read_table("owner/reviews")
    assert caplog.text == ""
    assert logging.get_verbosity() == before
    logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 8s")
    assert "Retrying" in caplog.text


def test_reading_files_is_silent_and_leaves_nothing_at_home(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "t.parquet")
    home = tmp_path / "home"
    home.mkdir()
    places = ("HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME", "JAXFT_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in places} | {"HOME": str(home)}
    script = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = refuse\n"
        "from jaxft.data import read_table\n"
        f"print(len(read_table({str(tmp_path / 't.parquet')!r})))\n"
        "from datasets.utils.logging import is_progress_bar_enabled\n"
        "assert is_progress_bar_enabled()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "1"
    assert "Generating" not in done.stderr
    assert list(home.iterdir()) == []
