"""Large arrays that a program can compute again: in memory while they are small, in files of the cache beyond."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from jaxft.files import Layout, atomic_file, cache_dir

_DIGEST = 32
_BLOCK = 2**24
_held: OrderedDict[str, tuple[np.ndarray, ...]] = OrderedDict()


Chunks = Callable[[], Iterable[tuple[int, Sequence[np.ndarray]]]]
"""Gives the rows from a row on, for every array, in order."""


def keep(key: str, layouts: Sequence[Layout], chunks: Chunks, limit: int | None = None) -> tuple[np.ndarray, ...]:
    """The arrays of this key: those at hand in this process or in the cache, else new ones.

    Args:
        key: names all that the arrays depend on.
        layouts: of the arrays.
        chunks: computes them.
        limit: bytes beyond which they are mapped from files; a quarter of the free memory when it is None.
    """
    if key in _held:
        _held.move_to_end(key)
        return _held[key]
    limit = free_memory() // 4 if limit is None else limit
    found = _in_memory(layouts, chunks) if sum(x.bytes for x in layouts) <= limit else _in_files(key, layouts, chunks)
    _held[key] = found
    while len(_held) > 1 and sum(map(_memory, _held.values())) > limit:
        _held.popitem(last=False)
    return found


def free_memory() -> int:
    """Bytes of memory that can be had."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _memory(arrays: tuple[np.ndarray, ...]) -> int:
    return sum(0 if isinstance(array, np.memmap) else array.nbytes for array in arrays)


def _in_memory(layouts: Sequence[Layout], chunks: Chunks) -> tuple[np.ndarray, ...]:
    arrays = tuple(np.empty(layout.shape, layout.dtype) for layout in layouts)
    _fill(arrays, chunks)
    return arrays


def _fill(arrays: Sequence[np.ndarray], chunks: Chunks) -> None:
    for start, parts in chunks():
        for array, part in zip(arrays, parts, strict=True):
            array[start : start + len(part)] = part


def _in_files(key: str, layouts: Sequence[Layout], chunks: Chunks) -> tuple[np.ndarray, ...]:
    """Maps the files of the key; the first process that finds them missing or damaged writes them."""
    from filelock import FileLock

    room = cache_dir() / "prefix"
    room.mkdir(parents=True, exist_ok=True)
    files = [room / f"{key}.{index}" for index in range(len(layouts))]
    with FileLock(room / f"{key}.lock"):
        if not all(map(_is_sound, files, layouts)):
            for left in room.glob(f".{key}.*.partial"):  # of a process that was killed: no other has the lock
                shutil.rmtree(left, ignore_errors=True)
            with ExitStack() as stack:
                _write([stack.enter_context(atomic_file(file)) for file in files], layouts, chunks)
    return tuple(
        np.memmap(file, layout.dtype, "r", 0, layout.shape) for file, layout in zip(files, layouts, strict=True)
    )


def _write(files: Sequence[Path], layouts: Sequence[Layout], chunks: Chunks) -> None:
    arrays = [np.memmap(file, layout.dtype, "w+", 0, layout.shape) for file, layout in zip(files, layouts, strict=True)]
    _fill(arrays, chunks)
    for array in arrays:
        array.flush()
    for file, layout in zip(files, layouts, strict=True):
        with open(file, "ab") as handle:
            handle.write(_digest(file, layout.bytes))


def _is_sound(file: Path, layout: Layout) -> bool:
    """Whether the file holds the bytes of the array and, behind them, their sha256."""
    if not file.is_file() or file.stat().st_size != layout.bytes + _DIGEST:
        return False
    with open(file, "rb") as handle:
        handle.seek(layout.bytes)
        return handle.read() == _digest(file, layout.bytes)


def _digest(file: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        for start in range(0, size, _BLOCK):
            digest.update(handle.read(min(_BLOCK, size - start)))
    return digest.digest()
