"""Files that are written once: whole, on disk, and never over another."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxft.errors import InputError

_PARTIAL = ".partial"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def remedy(error: OSError) -> str:
    """What to do when the directory of a study cannot be written to."""
    if error.errno in _FULL:
        return "free some space and give the same command, which goes on from the runs that are done"
    return "choose a directory that can be written to"


@contextmanager
def draft(directory: Path, text: str) -> Iterator[Path]:
    """A hidden file with this text, flushed to disk; its first name is gone at the end, those linked to it stay.

    Raises:
        InputError: the directory cannot be written to.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> with draft(directory, "whole") as file:
        ...     link_new(file, directory / "one"), link_new(file, directory / "one"), link_new(file, directory / "two")
        (True, True, True)
        >>> with draft(directory, "another") as file:
        ...     link_new(file, directory / "one")
        False
        >>> sorted(path.name for path in directory.iterdir())
        ['one', 'two']
    """
    path = directory / f".{secrets.token_hex(8)}{_PARTIAL}"
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(f"cannot write in {directory} ({error.strerror}): {remedy(error)}") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def link_new(file: Path, path: Path) -> bool:
    """Gives a file a second name unless another file has it; of several who try at once, one succeeds.

    Linking is exclusive on network file systems too. Its answer may be lost and the request sent again, which then
    finds the name taken: by ourselves, so the two names are compared.

    Raises:
        InputError: the file system has no hard links, or cannot be written to.
    """
    try:
        os.link(file, path)
    except FileExistsError:
        try:
            return os.path.samefile(file, path)
        except FileNotFoundError:
            return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise InputError(f"cannot write {path} ({error.strerror}): {remedy(error)}") from error
        raise InputError(
            f"cannot link files in {path.parent} ({error.strerror}), which keeps two processes from doing one run: "
            "choose a directory on a file system with hard links"
        ) from error
    return True


def write_new(path: Path, text: str) -> bool:
    """Writes a file that is not there yet, whole and on disk; False, and nothing is changed, if one is there.

    Raises:
        InputError: its directory cannot be written to.
    """
    with draft(path.parent, text) as file:
        made = link_new(file, path)
    if made:
        sync_directory(path.parent)
    return made


def sync_directory(directory: Path) -> None:
    """Forces the names in a directory to disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep_drafts(directory: Path, age: float) -> None:
    """Deletes the drafts of processes that were killed while they wrote.

    Args:
        directory: where they wrote.
        age: seconds; younger drafts may be somebody's.
    """
    now = server_time(directory)
    for path in directory.glob(f".*{_PARTIAL}"):
        with suppress(FileNotFoundError):
            if now - path.stat().st_mtime > age:
                path.unlink()


def server_time(directory: Path) -> float:
    """What the clock of the file server says, which may differ from ours; ours if nothing can be written there."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
