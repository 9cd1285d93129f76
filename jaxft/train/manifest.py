"""What a checkpoint says of itself, and the proof that its files are whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.files import atomic_file
from jaxft.trees import leaf_paths
from jaxft.types import PyTree

NAME = "manifest.json"


class Damaged(Exception):
    """A checkpoint that cannot be trusted; the message is the reason."""


class Manifest(NamedTuple):
    """What is known of a checkpoint beside its arrays.

    Attributes:
        step: the number of updates made.
        metrics: those of the evaluation at this step, empty without one.
        base: the fingerprint of the base model, or None when none was stated.
        config: the run's configuration as JSON, or None when none was stated.
        leaves: the shape and dtype of every array, by path.
        best: the metric the best checkpoint is chosen by and "max" or "min", or None.
    """

    step: int
    metrics: dict[str, float]
    base: str | None
    config: Any
    leaves: dict[str, list[Any]]
    best: list[str] | None


def describe_leaves(tree: PyTree) -> dict[str, list[Any]]:
    """The shape and dtype of every leaf; a random key's dtype names its algorithm."""
    return {path: [list(leaf.shape), _dtype_name(leaf.dtype)] for path, leaf in leaf_paths(tree).items()}


def _dtype_name(dtype: Any) -> str:
    return str(dtype) if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).name


def as_json(config: Any) -> Any:
    """Turns a configuration into what JSON can hold: dataclasses and named tuples become dicts, paths strings.

    Raises:
        InputError: a value has no place in JSON.

    Example:
        >>> as_json({"rates": (1e-3, np.float32(0.5)), "out": Path("runs")})
        {'rates': [0.001, 0.5], 'out': 'runs'}
    """
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: as_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, tuple) and hasattr(config, "_asdict"):
        config = config._asdict()
    if isinstance(config, Mapping):
        return {str(key): as_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple | range):
        return [as_json(value) for value in config]
    if isinstance(config, np.generic | np.ndarray | jax.Array):
        return as_json(np.asarray(config).tolist())
    if isinstance(config, os.PathLike):
        return os.fspath(config)
    if config is None or isinstance(config, bool | int | float | str):
        return config
    raise InputError(
        f"a configuration is compared on resuming and must hold numbers, strings, lists and dicts, "
        f"but it holds {config!r} of type {type(config).__name__}"
    )


def differences(stored: Any, given: Any, key: str = "") -> list[str]:
    """Says key by key where two configurations differ.

    Example:
        >>> differences({"lr": 0.1, "lora": {"rank": 4}}, {"lr": 0.1, "lora": {"rank": 8}, "seed": 0})
        ['lora.rank: 4 in the checkpoint, 8 now', 'seed: absent in the checkpoint, 0 now']
    """
    if isinstance(stored, dict) and isinstance(given, dict):
        found: list[str] = []
        for name in [*stored, *(name for name in given if name not in stored)]:
            path = f"{key}.{name}" if key else name
            if name not in given:
                found.append(f"{path}: {stored[name]!r} in the checkpoint, absent now")
            elif name not in stored:
                found.append(f"{path}: absent in the checkpoint, {given[name]!r} now")
            else:
                found += differences(stored[name], given[name], path)
        return found
    same = stored == given and isinstance(stored, bool) == isinstance(given, bool)
    return [] if same else [f"{key or 'configuration'}: {stored!r} in the checkpoint, {given!r} now"]


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Hashes every file of a finished checkpoint and writes the manifest, whose presence marks it complete."""
    content = {**manifest._asdict(), "files": _file_hashes(directory)}
    with atomic_file(directory / NAME) as temporary:
        temporary.write_text(json.dumps({**content, "sha256": _digest(content)}, indent=1), encoding="utf-8")


def read_manifest(directory: Path) -> Manifest:
    """Reads a manifest and checks it against its own hash.

    Raises:
        Damaged: there is none, or it was changed since it was written.
    """
    try:
        content = json.loads((directory / NAME).read_bytes())
        if not isinstance(content, dict) or content.pop("sha256", None) != _digest(content):
            raise Damaged("its manifest was changed after it was written")
        content.pop("files")
        return Manifest(**content)
    except FileNotFoundError:
        raise Damaged("it was never finished") from None
    except (ValueError, KeyError, TypeError):
        raise Damaged("its manifest cannot be read") from None


def verify_files(directory: Path) -> None:
    """Compares every file with the hash taken when the checkpoint was finished.

    Raises:
        Damaged: a file is missing, was added or differs; the message names it.
    """
    written = json.loads((directory / NAME).read_bytes())["files"]
    found = _file_hashes(directory)
    for name in sorted(written.keys() | found.keys()):
        if name not in found:
            raise Damaged(f"its file {name} is missing")
        if name not in written:
            raise Damaged(f"its file {name} was added after it was written")
        if found[name] != written[name]:
            raise Damaged(f"its file {name} differs from what was written")


def _file_hashes(directory: Path) -> dict[str, str]:
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name != NAME)
    return {file.relative_to(directory).as_posix(): _file_hash(file) for file in files}


def _file_hash(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
