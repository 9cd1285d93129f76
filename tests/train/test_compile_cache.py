"""The cache of compiled programs: where it is, and that a torn entry changes nothing."""

from __future__ import annotations

import zlib

import jax
import pytest

from jaxft.train import enable_compile_cache
from tests.train.processes import SCRIPT, run, value

CACHED = SCRIPT.with_name("cached_run.py")


@pytest.fixture(autouse=True)
def _former_cache():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    assert enable_compile_cache() == tmp_path / "jax"
    assert enable_compile_cache(tmp_path / "named") == tmp_path / "named"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert enable_compile_cache() == tmp_path / "ours" / "xla"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "ours" / "xla")


def test_a_torn_entry_is_compiled_again_to_the_same_result(tmp_path):
    def trained() -> str:
        code, output, errors = run(tmp_path, script=CACHED)
        assert code == 0, errors
        assert "Error reading" not in errors
        return value(output, "fingerprint")

    first = trained()
    entries = {path: path.read_bytes() for path in tmp_path.glob("*-cache")}
    assert entries
    assert trained() == first
    for path, data in entries.items():
        path.write_bytes(data[: len(data) // 2])
    assert trained() == first
    for path in entries:
        assert zlib.decompress(path.read_bytes())
