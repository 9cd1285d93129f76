"""Activations that are too large for memory: whole files, found again by all that they depend on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.files import Layout
from jaxft.study import prefix_store
from tests.study.prefix_cases import BATCH, mlp, mlp_params, mlp_rows, prefix_of
from tests.study.prefix_writer import ROWS, arrays

SCRIPT = Path(__file__).with_name("prefix_writer.py")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
    forget(monkeypatch)
    return tmp_path / "prefix"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process knows nothing of the arrays of another."""
    monkeypatch.setattr(prefix_store, "_held", OrderedDict())


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments], stdout=subprocess.PIPE, text=True, env=environment
    )


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(cache: Path):
    with start("key", "half") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "half\n":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert {path.suffix for path in cache.iterdir()} == {".lock", ".partial"}
    floats, numbers = arrays("key")
    np.testing.assert_array_equal(numbers, np.repeat(np.arange(0, ROWS, 2), 2))
    np.testing.assert_array_equal(floats[:, 0], numbers)
    assert sorted(path.name for path in cache.iterdir()) == ["key.0", "key.1", "key.lock"]
    with start("key") as process:
        output, _ = process.communicate(timeout=120)
    assert output == f"sum {float(floats.sum())}\n"  # read, not computed


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "empty"])
def test_a_damaged_file_is_made_anew(cache: Path, damage: str, monkeypatch: pytest.MonkeyPatch):
    whole = [array.copy() for array in arrays("key")]
    file = cache / "key.0"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut": bytes(content[:-40]), "changed": bytes(content), "empty": b""}[damage])
    forget(monkeypatch)
    for found, expected in zip(arrays("key"), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_small_arrays_stay_in_memory_while_there_is_room(cache: Path, capsys: pytest.CaptureFixture[str]):
    size = ROWS * 5 * 4 + ROWS * 4
    first = arrays("first", limit=size)
    assert not isinstance(first[0], np.memmap)
    assert arrays("first", limit=size)[0] is first[0]
    arrays("second", limit=size)
    capsys.readouterr()
    assert arrays("first", limit=size)[0] is not first[0]
    assert "computed" in capsys.readouterr().out
    assert not cache.exists()


def test_activations_are_mapped_from_files_beyond_the_limit(cache: Path, monkeypatch: pytest.MonkeyPatch):
    rows, head = mlp_rows(), ft.tune("head/**")
    prefix = prefix_of(mlp, mlp_params(), head, rows)
    assert prefix is not None
    (small,) = prefix.columns(rows, BATCH)
    forget(monkeypatch)
    (large,) = prefix.columns(rows, BATCH, limit_bytes=10)
    assert isinstance(large, np.memmap)
    assert not large.flags.writeable
    np.testing.assert_array_equal(large, small)


def test_activations_are_named_by_what_they_depend_on(cache: Path):
    rows, params, head = mlp_rows(), mlp_params(), ft.tune("head/**")

    def files(params: Any, rows: Any, apply: Any = mlp) -> set[str]:
        prefix = prefix_of(apply, params, head, rows)
        assert prefix is not None
        prefix.columns(rows, BATCH, limit_bytes=0)
        return {path.name for path in cache.iterdir() if path.suffix == ".0"}

    def sharper(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
        h1 = jax.nn.relu(batch["x"] @ params["layer_0"]["kernel"] + params["layer_0"]["bias"])
        return ft.Outputs(logits=jnp.tanh(h1 @ params["layer_1"]["kernel"]) @ params["head"]["kernel"])

    assert len(files(params, rows)) == 1
    assert len(files(params, rows | {"labels": rows["labels"] + 1})) == 1
    assert len(files(params | {"head": {"kernel": params["head"]["kernel"] + 1}}, rows)) == 1
    assert len(files(params | {"layer_1": {"kernel": params["layer_1"]["kernel"] + 1}}, rows)) == 2
    assert len(files(params, rows | {"x": rows["x"] + 1})) == 3
    assert len(files(params, rows, sharper)) == 4


def test_narrow_floats_come_back_from_a_file(cache: Path, monkeypatch: pytest.MonkeyPatch):
    layout = Layout((4, 2), jnp.dtype(jnp.bfloat16))
    values = np.arange(8, dtype=np.float32).astype(jnp.bfloat16).reshape(4, 2)
    prefix_store.keep("narrow", [layout], lambda: [(0, [values])], 0)
    forget(monkeypatch)
    (found,) = prefix_store.keep("narrow", [layout], lambda: [], 0)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, values)
