"""Compiled programs kept on disk, so that the next process does not compile them again."""

from __future__ import annotations

import os
import warnings
import zlib
from pathlib import Path

import jax

from jaxft.errors import InputError
from jaxft.files import cache_dir


def enable_compile_cache(directory: str | os.PathLike[str] | None = None) -> Path:
    """Turns on XLA's persistent compilation cache for this process and returns its directory.

    JAX compresses an entry with a checksum but does not write it atomically: an entry that a killed process left half
    written fails to decompress and the program is compiled again, so it never changes a result. Such entries
    are not replaced by JAX, hence those written since the last call are checked here and removed, and JAX's
    warning about one that another process is just writing is silenced.

    Args:
        directory: where to keep the programs; by default ``$JAX_COMPILATION_CACHE_DIR``, else ``xla`` in jaxft's
            cache directory.

    Raises:
        InputError: the directory cannot be created.

    Example:
        >>> import tempfile
        >>> before = jax.config.jax_compilation_cache_dir
        >>> enable_compile_cache(tempfile.mkdtemp()).is_dir()
        True
        >>> jax.config.update("jax_compilation_cache_dir", before)
    """
    chosen = directory or os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_dir() / "xla"
    path = Path(chosen).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"compiled programs cannot be kept in {path} ({error.strerror}): choose another place"
        ) from error
    _remove_torn_entries(path)
    warnings.filterwarnings("ignore", message="Error reading persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(path))
    return path


def _remove_torn_entries(path: Path) -> None:
    stamp = path / ".checked"
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    stamp.touch()
    for entry in path.glob("*-cache"):
        if entry.stat().st_mtime >= since - 1.0 and not _whole(entry.read_bytes()):
            entry.unlink(missing_ok=True)


def _whole(data: bytes) -> bool:
    """Whether an entry decompresses; Zstandard ones, which newer JAX writes where it can, are left to JAX."""
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return True
    try:
        zlib.decompress(data)
    except zlib.error:
        return False
    return True
