"""How images become pixels for a model: ``preprocessor_config.json``, read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from jaxft.errors import InputError
from jaxft.files import read_json_object
from jaxft.models.config import ImageConfig, ModelConfig

PREPROCESSOR = "preprocessor_config.json"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
C = TypeVar("C", bound=ModelConfig)


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value a channel: as given, or their mean where a model has another number of channels.

    Example:
        >>> per_channel((0.25, 0.5, 0.75), 1)
        (0.5,)
    """
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def read_preprocessing(directory: Path, config: C) -> C:
    """The configuration with the mean and standard deviation a directory names, if it does.

    Raises:
        InputError: the file is damaged, or has another number of channels than the model.
    """
    path = directory / PREPROCESSOR
    if not isinstance(config, ImageConfig) or not path.is_file():
        return config
    raw = read_json_object(path)
    # Ours are of levels in 0..1; a file may name another factor from 0..255, and none at all.
    factor = raw.get("rescale_factor", 1 / 255) if raw.get("do_rescale", True) else 1.0
    named = raw.get("do_normalize", True)
    mean = _values(raw, "image_mean" if named else None, config, config.mean if named else (0.0,))
    std = _values(raw, "image_std" if named else None, config, config.std if named else (1.0,))
    if not isinstance(factor, (int, float)) or not factor > 0 or not all(value > 0 for value in std):
        raise InputError(f"rescale_factor and image_std in {path} must be positive: it is damaged")
    unit = 255 * factor
    if abs(unit - 1) > 1e-6:
        mean, std = tuple(value / unit for value in mean), tuple(value / unit for value in std)
    return replace(config, mean=mean, std=std, preprocessing=raw)


def _values(
    raw: Mapping[str, Any], name: str | None, config: ImageConfig, fallback: Sequence[float]
) -> tuple[float, ...]:
    found = fallback if name is None else raw.get(name, fallback)
    numbers = [found] if isinstance(found, (int, float)) else found
    if not isinstance(numbers, Sequence) or not all(isinstance(value, (int, float)) for value in numbers):
        raise InputError(f"{name} in {PREPROCESSOR} must be a number for each channel; got {found!r}")
    if len(numbers) not in (1, config.channels):
        raise InputError(
            f"{name} in {PREPROCESSOR} has {len(numbers)} values but the model reads {config.channels} channels"
        )
    return per_channel([float(value) for value in numbers], config.channels)


def preprocessing_to_hf(config: ImageConfig) -> dict[str, Any]:
    """The fields of ``preprocessor_config.json``: those it came from, with the scale of the pixels made explicit."""
    return dict(config.preprocessing) | {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
    }
