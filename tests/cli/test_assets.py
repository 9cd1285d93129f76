"""`jaxft assets`."""

from __future__ import annotations

import shutil

from jaxft.files import fetch


def test_the_list_says_what_is_fetched(jaxft, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
    ended = jaxft("assets", "list")
    assert ended.code == 0
    assert "minilm" in ended.out
    assert "Apache-2.0" in ended.out
    assert "not fetched" in " ".join(ended.out.split())


def test_fetching_says_where_it_is(jaxft):
    ended = jaxft("assets", "fetch", "minilm")
    assert ended.out.strip() == str(fetch("minilm"))
    assert jaxft("assets", "verify", "minilm").code == 0


def test_damage_in_the_cache_is_named(jaxft, monkeypatch, tmp_path):
    directory = fetch("minilm")
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
    shutil.copytree(directory, tmp_path / "assets" / directory.name)
    with (tmp_path / "assets" / directory.name / "vocab.txt").open("r+") as file:
        file.write("x")
    ended = jaxft("assets", "verify", "minilm")
    assert ended.code == 2
    assert "vocab.txt" in ended.err
    assert "--refresh" in ended.err
