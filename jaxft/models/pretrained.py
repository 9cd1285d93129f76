"""What a source of a pretrained model holds, whichever way it was stored."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxft.errors import InputError
from jaxft.models.config import ModelConfig
from jaxft.models.family import Family
from jaxft.models.gguf import Gguf, read_gguf
from jaxft.models.hub import (
    GGUF,
    check_vocabulary,
    plain_names,
    read_arrays,
    read_config,
    read_tokenizer,
    resolve,
)


class Pretrained(NamedTuple):
    """A source that was found; its arrays and tokenizer are read when they are asked for.

    Attributes:
        path: the directory, or the GGUF file.
        raw: the fields of its ``config.json``.
        arrays: ``arrays(family)``: every array by its name there without the family's prefix.
        tokenizer: ``tokenizer(config)``: that of Hugging Face, or None.
    """

    path: Path
    raw: dict[str, Any]
    arrays: Callable[[Family], dict[str, np.ndarray]]
    tokenizer: Callable[[ModelConfig], Any]


def find_pretrained(source: str | os.PathLike[str]) -> Pretrained:
    """Finds what a person names: an asset, a directory, a GGUF file or a hub id.

    A directory without ``config.json`` may hold one GGUF file in its place.

    Raises:
        InputError: there is no such source, or its configuration cannot be read.
    """
    path = resolve(source)
    file = _gguf_file(path)
    if file is None:
        read = functools.partial(read_arrays, path), functools.partial(read_tokenizer, path)
        return Pretrained(path, read_config(path), *read)
    held = read_gguf(file)
    return Pretrained(
        file,
        held.config,
        functools.partial(plain_names, held.arrays),
        functools.partial(_checked_tokenizer, held, file),
    )


def _gguf_file(path: Path) -> Path | None:
    if path.is_file():
        return path
    files = sorted(path.glob(f"*{GGUF}"))
    if not files or (path / "config.json").is_file():
        return None
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{path} holds several GGUF files ({names}): name the one to load")
    return files[0]


def _checked_tokenizer(held: Gguf, file: Path, config: ModelConfig) -> Any:
    if held.tokenizer is not None:
        check_vocabulary(held.tokenizer, config, file)
    return held.tokenizer
