from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from jaxft.errors import InputError
from jaxft.files import extract


def make(kind: str, path: Path, members: dict[str, bytes]) -> Path:
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as made:
            for name, content in members.items():
                made.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as made:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_only_named_members_are_written(tmp_path: Path, kind: str):
    archive = make(kind, tmp_path / "a", {"in/one.txt": b"1", "in/two.txt": b"2"})
    out = tmp_path / "out"
    out.mkdir()
    assert extract(archive, {"in/two.txt": "deep/two.txt"}, out) == [out / "deep" / "two.txt"]
    assert [(file.name, file.read_bytes()) for file in out.rglob("*") if file.is_file()] == [("two.txt", b"2")]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "in/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_a_member_that_leaves_its_directory_condemns_the_archive(tmp_path: Path, kind: str, name: str):
    archive = make(kind, tmp_path / "a", {"good.txt": b"1", name: b"2"})
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="outside its directory"):
        extract(archive, {"good.txt": "good.txt"}, out)
    assert list(out.iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} == {"a", "out"}


def test_a_target_that_leaves_its_directory_is_refused(tmp_path: Path):
    archive = make("zip", tmp_path / "a", {"good.txt": b"1"})
    with pytest.raises(InputError, match="outside its directory"):
        extract(archive, {"good.txt": "../good.txt"}, tmp_path)


def test_a_link_is_no_regular_file(tmp_path: Path):
    with tarfile.open(tmp_path / "a", "w") as made:
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        made.addfile(link)
    with pytest.raises(InputError, match=r"no regular file 'link.txt'"):
        extract(tmp_path / "a", {"link.txt": "link.txt"}, tmp_path)
    assert not (tmp_path / "link.txt").exists()


def test_a_link_in_a_zip_is_no_regular_file(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a", "w") as made:
        link = zipfile.ZipInfo("link.txt")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/hostname")
    with pytest.raises(InputError, match=r"no regular file 'link.txt'"):
        extract(tmp_path / "a", {"link.txt": "link.txt"}, tmp_path)
    assert not (tmp_path / "link.txt").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_damaged_content_is_named(tmp_path: Path, kind: str):
    path, content = tmp_path / "a", random.Random(0).randbytes(3000).hex().encode()
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("x", content)
    else:
        make("tar", path, {"x": content})
    damaged = bytearray(path.read_bytes())
    damaged[1000:1200] = bytes(200)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="a is not a readable zip or tar archive") as caught:
        extract(path, {"x": "x"}, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_member_that_is_not_there_is_named_with_the_nearest(tmp_path: Path):
    archive = make("zip", tmp_path / "a", {"model.safetensors": b"1"})
    with pytest.raises(InputError, match=r"'model.safetensor' \(nearest: model.safetensors\)"):
        extract(archive, {"model.safetensor": "x"}, tmp_path)


def test_a_file_that_is_no_archive_is_named(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"not an archive")
    with pytest.raises(InputError, match="not a readable zip or tar"):
        extract(tmp_path / "a", {"x": "x"}, tmp_path)
