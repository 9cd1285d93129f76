"""Fashion-MNIST: small grey pictures of clothes, shoes and bags."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxft.errors import InputError, nearest
from jaxft.files import fetch

FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_IMAGES, _LABELS = 3, 1  # how many dimensions the files have


class Images(NamedTuple):
    """Pictures and their classes.

    Attributes:
        images: ``[rows, height, width]`` uint8, 0 is the ground.
        labels: ``[rows]`` int32, places in the split's classes.
    """

    images: np.ndarray
    labels: np.ndarray


class ImageSplit(NamedTuple):
    """The pictures of a data set.

    Attributes:
        train: pictures to learn from.
        test: pictures to measure on.
        classes: the names of the labels.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]


def fashion_mnist(classes: Sequence[str] | None = None) -> ImageSplit:
    """Fashion-MNIST, 28 x 28: 6,000 pictures of each class to train on and 1,000 to test on.

    The asset is a Debian package, so it is fetched on Debian only. Licence: MIT.

    Args:
        classes: names from `FASHION_CLASSES`: only their pictures are kept, and a label is a place among them. By
            default all ten.

    Raises:
        InputError: there is no such class, one is named twice or none is named, or the asset cannot be fetched or is
            damaged.

    Example:
        >>> fashion_mnist(["shirt", "cot"])
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: there is no class 'cot' (nearest: coat, ankle boot)

    References:
        Xiao et al. (2017), Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms.
    """
    names = FASHION_CLASSES if classes is None else tuple(classes)
    for name in names:
        if name not in FASHION_CLASSES:
            raise InputError(f"there is no class {name!r} ({nearest(name, FASHION_CLASSES)})")
    if not names or len(set(names)) < len(names):
        raise InputError(f"name each class once, at least one of {', '.join(FASHION_CLASSES)}; got {list(names)}")
    directory = fetch("fashion-mnist")
    return ImageSplit(_read(directory, "train", names), _read(directory, "t10k", names), names)


def _read(directory: Path, part: str, names: tuple[str, ...]) -> Images:
    images = _idx(directory / f"{part}-images-idx3-ubyte.gz", _IMAGES)
    labels = _idx(directory / f"{part}-labels-idx1-ubyte.gz", _LABELS)
    places = np.full(len(FASHION_CLASSES), -1, np.int32)
    places[[FASHION_CLASSES.index(name) for name in names]] = np.arange(len(names))
    kept = places[labels] >= 0
    return Images(images[kept], places[labels][kept])


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """A file of unsigned bytes: two zeros, the type 8, the number of dimensions, their sizes, the values."""
    try:
        content = gzip.decompress(path.read_bytes())
        magic, *shape = struct.unpack_from(f">{1 + dimensions}I", content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise InputError(f"{path} is damaged ({error}): fetch it again") from error
    values = np.frombuffer(content, np.uint8, offset=4 * (1 + dimensions))
    if magic != 8 << 8 | dimensions or values.size != math.prod(shape):
        raise InputError(f"{path} is damaged (not {dimensions} dimensions of bytes): fetch it again")
    return values.reshape(shape)
