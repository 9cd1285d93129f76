"""Taking named members out of a zip or tar archive, safely."""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO

from jaxft.errors import InputError, nearest


def extract(archive: Path, members: Mapping[str, str], directory: Path) -> list[Path]:
    """Writes the named members of an archive into a directory, under the names given for them.

    Every name in the archive is checked before anything is written: an archive with one member that would
    leave the directory is refused whole. Only regular files are taken.

    Args:
        archive: a wheel, zip or tar file.
        members: name in the archive -> relative name in the directory.
        directory: an existing directory.

    Returns:
        The files written, in the order of ``members``.

    Raises:
        InputError: unreadable archive, a member that would leave the directory, or a member that is not there.

    Example:
        >>> import tempfile
        >>> room = Path(tempfile.mkdtemp())
        >>> with zipfile.ZipFile(room / "a.zip", "w") as made:
        ...     made.writestr("inner/note.txt", "hello")
        >>> extract(room / "a.zip", {"inner/note.txt": "note.txt"}, room)[0].read_text()
        'hello'
    """
    for target in members.values():
        _refuse_escape(target, archive)
    written: list[Path] = []
    with ExitStack() as stack:
        try:
            files = _open(archive, stack)
            _refuse_missing(members, files, archive)
            for member, target in members.items():
                path = directory / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with files[member]() as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink)
                written.append(path)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            said = " ".join(str(error).split())
            raise InputError(f"{archive.name} is not a readable zip or tar archive ({said}): fetch it again") from error
    return written


class _Opener:
    def __init__(self, source: zipfile.ZipFile | tarfile.TarFile, name: str) -> None:
        self.source, self.name = source, name

    def __call__(self) -> IO[bytes]:
        if isinstance(self.source, zipfile.ZipFile):
            return self.source.open(self.name)
        handle = self.source.extractfile(self.name)
        if handle is None:
            raise InputError(f"{self.name} in the archive is not a regular file, which is all that is extracted")
        return handle


def _open(archive: Path, stack: ExitStack) -> dict[str, _Opener]:
    source: zipfile.ZipFile | tarfile.TarFile
    if zipfile.is_zipfile(archive):
        source = stack.enter_context(zipfile.ZipFile(archive))
        names = source.namelist()
        regular = [entry.filename for entry in source.infolist() if not (entry.is_dir() or _is_link(entry))]
    else:
        source = stack.enter_context(tarfile.TarFile.open(archive))
        entries = source.getmembers()
        names = [entry.name for entry in entries]
        regular = [entry.name for entry in entries if entry.isfile()]
    for name in names:
        _refuse_escape(name, archive)
    return {name: _Opener(source, name) for name in regular}


def _is_link(entry: zipfile.ZipInfo) -> bool:
    return stat.S_ISLNK(entry.external_attr >> 16)


def _refuse_escape(name: str, archive: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or ".." in path.parts or drive or "\0" in name:
        raise InputError(
            f"{archive.name} holds the member {name!r}, which would be written outside its directory: "
            "nothing was extracted; do not use this file"
        )


def _refuse_missing(members: Iterable[str], files: Mapping[str, _Opener], archive: Path) -> None:
    for member in members:
        if member not in files:
            raise InputError(f"{archive.name} holds no regular file {member!r} ({nearest(member, files)})")
