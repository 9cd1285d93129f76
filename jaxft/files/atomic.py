"""Files and directories that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxft.errors import InputError


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary sibling of ``path`` to write to; it takes the place of ``path`` only on success.

    Args:
        path: the file to write; one that is there is replaced.

    Raises:
        InputError: ``path`` is a directory, or its directory cannot be written to.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_file(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    target = Path(path).absolute()
    if target.is_dir():
        raise InputError(f"expected a file to write, but {target} is a directory: choose another name")
    room = _temporary_room(target)
    try:
        temporary = room / target.name
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(room, ignore_errors=True)


@contextmanager
def atomic_directory(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary sibling directory to fill; it takes the place of ``path`` only on success.

    Args:
        path: the directory to write; an empty one that is there is taken over.
        replace: put the new directory in the place of one that holds files.

    Raises:
        InputError: ``path`` is a file, holds files (without ``replace``), or its parent cannot be written to.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "model"
        >>> with atomic_directory(target) as temporary:
        ...     _ = (temporary / "config.json").write_text("{}")
        >>> [entry.name for entry in target.iterdir()]
        ['config.json']
    """
    target = Path(path).absolute()
    _refuse_occupied(target, replace)
    room = _temporary_room(target)
    try:
        temporary = room / target.name
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(temporary.stat().st_mode & 0o666)  # safetensors writes for the owner alone
                _flush(file)
        _refuse_occupied(target, replace)
        if target.is_dir():
            os.replace(target, room / "old")
        os.replace(temporary, target)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _refuse_occupied(target: Path, replace: bool) -> None:
    if target.exists() and not target.is_dir():
        raise InputError(f"expected a directory to write, but {target} is a file: choose another name")
    if not replace and target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target} already holds files and nothing is overwritten: choose a new or empty directory")


def _temporary_room(target: Path) -> Path:
    """A new hidden directory beside the target, hence on its file system, so that renaming is one operation."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise InputError(
            f"cannot write {target}: {target.parent} is not a writable directory ({error.strerror}); "
            "choose another place"
        ) from error


def _flush(file: Path) -> None:
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
