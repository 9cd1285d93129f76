"""Where jaxft keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

from jaxft.errors import InputError


def cache_dir() -> Path:
    """The cache directory, created if need be: ``$JAXFT_CACHE``, else ``jaxft`` in the user's cache directory.

    Raises:
        InputError: the directory cannot be created.

    Example:
        >>> cache_dir().is_dir()
        True
    """
    named = os.environ.get("JAXFT_CACHE")
    parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(named).expanduser() if named else parent / "jaxft"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the cache directory {path} cannot be created ({error.strerror}): "
            "set JAXFT_CACHE to a directory you can write to"
        ) from error
    return path.absolute()
