"""Where results may be written, found out before anything is computed or written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from jaxft.cli.record import NAME
from jaxft.errors import InputError


def check_run_directory(out: Path, *, resume: bool) -> None:
    """Refuses a directory that cannot take a run; leaves nothing behind.

    Raises:
        InputError: it is a file, cannot be written, holds something else, or holds a run that is not resumed.
    """
    check_directory(out)
    # A run killed while it wrote its first file leaves that file's temporary directory.
    if out.is_dir() and any(entry.suffix != ".partial" for entry in out.iterdir()):
        if not (out / NAME).is_file():
            raise InputError(f"{out} holds files that are no run, and nothing is overwritten: choose a new directory")
        if not resume:
            raise InputError(
                f"{out} already holds a run: continue it with --resume, choose a new "
                "directory, or remove this one to begin anew"
            )


def check_new_directory(out: Path) -> None:
    """Refuses a directory that cannot be written or holds anything.

    Raises:
        InputError: says which.
    """
    check_directory(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} already holds files and nothing is overwritten: choose a new or empty directory")


def check_directory(out: Path) -> None:
    """Refuses a directory that is a file or cannot be written, by trying; leaves nothing behind.

    Raises:
        InputError: says which.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"expected a directory to write, but {out} is a file: choose another name")
    existing = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryDirectory(prefix=".jaxft.", dir=existing).cleanup()
    except OSError as error:
        raise InputError(
            f"cannot write {out}: {existing} is not a writable directory ({error.strerror}); choose another place"
        ) from error


def check_file(out: Path, *, inputs: tuple[str, ...] = ()) -> None:
    """Refuses a file that cannot be written or is one of the inputs.

    Raises:
        InputError: says which.
    """
    if out.is_dir():
        raise InputError(f"expected a file to write, but {out} is a directory: choose another name")
    if out.exists() and any(Path(name).exists() and out.samefile(name) for name in inputs):
        raise InputError(f"{out} is an input of this command and would be overwritten: choose another name")
    check_directory(out.absolute().parent)
