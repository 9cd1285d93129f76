from __future__ import annotations

from pathlib import Path

import pytest

from jaxft.errors import InputError
from jaxft.files import atomic_directory, atomic_file


def entries(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    target = tmp_path / "new" / "note.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert entries(target.parent) == {"note.txt"}


def test_an_error_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path):
    target = tmp_path / "note.txt"
    target.write_text("old")

    def write() -> None:
        with atomic_file(target) as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write()
    assert target.read_text() == "old"
    assert entries(tmp_path) == {"note.txt"}


def test_an_error_leaves_no_directory(tmp_path: Path):
    def write() -> None:
        with atomic_directory(tmp_path / "model") as temporary:
            (temporary / "config.json").write_text("{}")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write()
    assert entries(tmp_path) == set()


@pytest.mark.parametrize("replace", [False, True])
def test_an_occupied_directory_is_replaced_only_on_request(tmp_path: Path, replace: bool):
    target = tmp_path / "model"
    target.mkdir()
    (target / "mine").write_text("kept")

    def write() -> None:
        with atomic_directory(target, replace=replace) as temporary:
            (temporary / "new").write_text("")

    if replace:
        write()
        assert entries(target) == {"new"}
    else:
        with pytest.raises(InputError, match="already holds files"):
            write()
        assert entries(target) == {"mine"}
    assert entries(tmp_path) == {"model"}


def test_an_empty_directory_is_taken_over(tmp_path: Path):
    (tmp_path / "model").mkdir()
    with atomic_directory(tmp_path / "model") as temporary:
        (temporary / "new").write_text("")
    assert entries(tmp_path / "model") == {"new"}


@pytest.mark.parametrize(("writer", "message"), [(atomic_file, "is a directory"), (atomic_directory, "is a file")])
def test_the_wrong_kind_of_target_is_refused(tmp_path: Path, writer, message: str):
    target = tmp_path / "target"
    target.mkdir() if writer is atomic_file else target.write_text("mine")
    with pytest.raises(InputError, match=message), writer(target):
        pass
    assert entries(tmp_path) == {"target"}


@pytest.mark.parametrize("writer", [atomic_file, atomic_directory])
def test_a_parent_that_cannot_be_written_to_is_refused(tmp_path: Path, writer):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="not a writable directory"), writer(tmp_path / "file" / "inside"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_files_written_for_the_owner_alone_get_the_usual_permissions(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "model") as temporary:
        (temporary / "private").touch(mode=0o600)
    (tmp_path / "usual").touch()
    assert (tmp_path / "model" / "private").stat().st_mode == (tmp_path / "usual").stat().st_mode
