"""The files of an adapter, read and written; what they hold is for others to understand."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.files import atomic_directory, read_json_object
from jaxft.types import Array

CONFIG, WEIGHTS, NOTES = "adapter_config.json", "adapter_model.safetensors", "jaxft.json"


def read_fields(place: Path) -> dict[str, Any]:
    """The fields of ``adapter_config.json``."""
    path = place / CONFIG
    if not path.is_file():
        raise InputError(f"{place} holds no {CONFIG}: expected the directory of a PEFT adapter")
    return read_json_object(path)


def read_notes(place: Path) -> dict[str, Any]:
    """What :func:`save_adapter` noted beside the two files; PEFT leaves no notes, and all that it stores learned."""
    notes: dict[str, Any] = {"base": None, "frozen": []}
    return notes | (read_json_object(place / NOTES) if (place / NOTES).is_file() else {})


def read_tensors(place: Path) -> dict[str, Array]:
    """The tensors of the file by their names there."""
    from safetensors import SafetensorError
    from safetensors.flax import load_file

    path = place / WEIGHTS
    if not path.is_file():
        pickle = " but a pickle, which is not read" if (place / "adapter_model.bin").is_file() else ""
        raise InputError(f"{place} holds no {WEIGHTS}{pickle}: write or fetch the adapter again, as safetensors")
    try:
        return dict(load_file(str(path)))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or truncated ({error}): write or fetch it again") from error


def write_files(
    directory: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    fields: Mapping[str, Any],
    notes: Mapping[str, Any],
) -> None:
    """Writes the three files, all or none."""
    from safetensors.numpy import save_file

    with atomic_directory(directory) as temporary:
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        save_file(arrays, temporary / WEIGHTS, metadata={"format": "pt"})
        for name, held in ((CONFIG, fields), (NOTES, notes)):
            text = json.dumps(held, indent=2, sort_keys=True, ensure_ascii=False)
            (temporary / name).write_text(text + "\n", encoding="utf-8")
