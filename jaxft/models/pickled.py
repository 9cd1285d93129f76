"""Arrays from a PyTorch state dict, without PyTorch and without running what a pickle asks for.

A pickle is a program that may call anything it can name. The reader here lets it name only what a state dict needs:
an ordered dictionary, and three kinds of placeholders of its own in the place of PyTorch's tensors and storages.
"""

from __future__ import annotations

import math
import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Damage(Exception):
    """What is wrong with a file, for the end of a message."""


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a ``.pth`` or ``.pt`` file by name; floating ones as float32, others as they are.

    Both layouts of PyTorch are read: the zip archive (since 1.6) and the row of pickles before it. Nothing in the
    file is executed: a pickle that names anything a state dict has no need of is refused.

    Args:
        path: the file, written by ``torch.save(model.state_dict(), path)``.

    Raises:
        InputError: the file is missing or damaged, is no state dict, or names what is not allowed.

    Example:
        >>> import pathlib, pickle, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "model.pth")
        >>> _ = path.write_bytes(pickle.dumps(print))
        >>> read_state_dict(path)
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: .../model.pth asks for builtins.print, which no state dict needs: it was not run; ...
    """
    path = Path(path)
    try:
        root = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except Exception as error:  # a damaged pickle surfaces as whatever its program stumbled over
        raise InputError(f"{path} is damaged, or no PyTorch state dict ({error}): fetch or write it again") from error
    return root


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _Damage("the archive holds no data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        if prefix + "byteorder" in names and archive.read(prefix + "byteorder") != b"little":
            raise _Damage("its numbers are not little-endian")
        with archive.open(pickles[0]) as file:
            tensors = _tensors(_Unpickler(file, path).load())
        buffers = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            member = f"{prefix}data/{storage.key}"
            if archive.getinfo(member).file_size != storage.size * _width(storage.dtype):
                raise _Damage(f"{member} has another size than its tensors")
            try:
                buffers[storage.key] = archive.read(member)
            except (zipfile.BadZipFile, zlib.error) as error:
                raise _Damage(str(error)) from error
    return _arrays(tensors, buffers)


def _read_legacy(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        if _Unpickler(file, path).load() != _MAGIC or _Unpickler(file, path).load() != _PROTOCOL:
            raise _Damage("it does not start like one")
        if not _Unpickler(file, path).load()["little_endian"]:
            raise _Damage("its numbers are not little-endian")
        tensors = _tensors(_Unpickler(file, path).load())
        widths = {tensor.storage.key: _width(tensor.storage.dtype) for tensor in tensors.values()}
        sizes = {tensor.storage.key: tensor.storage.size for tensor in tensors.values()}
        buffers = {}
        for key in _Unpickler(file, path).load():
            (size,) = struct.unpack("<q", file.read(8))
            if size != sizes.get(key):
                raise _Damage(f"storage {key} has another size than its tensors")
            buffers[key] = _read_exactly(file, size * widths[key], path)
    return _arrays(tensors, buffers)


def _read_exactly(file: IO[bytes], count: int, path: Path) -> bytes:
    left = path.stat().st_size - file.tell()
    if count > left:
        raise _Damage(f"it ends {count - left} bytes early")
    return file.read(count)


class _Unpickler(pickle.Unpickler):
    """Knows the names a state dict uses, and no other."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        # Strings and bound methods: a pickle cannot set anything on them that outlasts it.
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch", "Size"): tuple,
        }
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) not in allowed:
            raise InputError(
                f"{self._path} asks for {module}.{name}, which no state dict needs: it was not run; "
                "do not trust this file, or save `model.state_dict()` alone from where you trust it"
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, size, *view = pid
        if kind != "storage" or dtype not in _STORAGES.values() or size < 0 or any(part is not None for part in view):
            raise _Damage("a storage is described in an unknown way")
        return _Storage(str(key), dtype, int(size))

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage) or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
            raise _Damage("a tensor is described in an unknown way")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        count = math.prod(shape)
        if count and (last >= storage.size or count > storage.size):
            raise _Damage("a tensor reaches beyond its storage")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def _parameter(self, tensor: Any, *_: Any) -> Any:
        return tensor


def _tensors(root: Any) -> dict[str, _Tensor]:
    if not isinstance(root, Mapping) or not root:
        raise _Damage("it holds no dictionary of tensors")
    for name, value in root.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise _Damage(f"its entry {name!r} is no tensor")
    return dict(root)


def _arrays(tensors: Mapping[str, _Tensor], buffers: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    return {name: _array(tensor, buffers[tensor.storage.key]) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, buffer: bytes) -> np.ndarray:
    dtype = _dtype(tensor.storage.dtype)
    if not math.prod(tensor.shape):
        return np.zeros(tensor.shape, np.float32 if dtype.kind in "fV" else dtype)
    flat = np.frombuffer(buffer, dtype)[tensor.offset :]
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
    return view.astype(np.float32 if dtype.kind in "fV" else dtype)


def _dtype(name: str) -> np.dtype:
    return np.dtype(jnp.bfloat16) if name == "bfloat16" else np.dtype(name)


def _width(name: str) -> int:
    return _dtype(name).itemsize
