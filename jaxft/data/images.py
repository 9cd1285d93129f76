"""Image files and arrays become rows of pixels, uint8 and of one size."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxft.data.dataset import Dataset
from jaxft.data.table import Table
from jaxft.data.tokens import label_array
from jaxft.errors import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
logger = logging.getLogger("jaxft")

_LOSSLESS = ("1", "L", "P", "RGB")
_WITH_ALPHA = ("LA", "PA", "La", "RGBA", "RGBa")
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError)  # what decoders raise at damaged files


def class_folders(directory: str | Path) -> Table:
    """Lists a directory that has a folder of images for each class.

    Args:
        directory: its folders' names are the labels; hidden folders are passed over, and other files with a warning.

    Returns:
        A table with the columns ``image``, the path of each file, and ``label``, in alphabetical order.

    Raises:
        InputError: there is no such directory, fewer than two folders, or a folder without images.
    """
    path = Path(directory)
    if not path.is_dir():
        raise InputError(f"there is no directory {path}; expected one with a folder of images for each class")
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if len(folders) < 2:
        raise InputError(f"{path} has {len(folders)} folders; expected one for each of at least two classes")
    images, labels, others = [], [], []
    for folder in folders:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{folder} holds no image; expected files ending in {', '.join(SUFFIXES)}")
        images += [str(file) for file in files]
        labels += [folder.name] * len(files)
        others += [file for file in folder.iterdir() if file not in files and not file.name.startswith(".")]
    if others:
        logger.warning(
            "the folders of %s hold %d entries that are no images and passed over, such as %s",
            path,
            len(others),
            min(others),
        )
    return Table.of({"image": images, "label": labels}, str(path))


def read_images(table: Table, *, size: int, labels: Any = None, root: str | Path = ".") -> Dataset:
    """Reads image files: the shorter side is resized to ``size`` and the middle square is kept.

    For training with random crops, read a little larger than the model's input (256 for 224). Grey and palette images
    become RGB, and a photograph is turned as its camera said.

    Args:
        table: a column ``image`` of file names.
        size: pixels a side.
        labels: ``[rows]`` ids (see `vocabulary`); None makes an unlabelled dataset.
        root: where relative names begin.

    Returns:
        A dataset with the column ``pixels [rows, size, size, 3]`` uint8, to be normalised by `augmented`.

    Raises:
        InputError: a file is missing, damaged or no image, or its mode does not become RGB without loss.
    """
    check_side("size", size)
    if not len(table):
        raise InputError(f"{table.source} has no rows; expected a column 'image' of file names")
    pixels = np.empty((len(table), size, size, 3), np.uint8)
    for row, name in enumerate(table["image"]):
        if not isinstance(name, str | Path) or not str(name).strip():
            raise InputError(f"'image' must be a file name, but {table.where(row)} has {name!r}")
        pixels[row] = centre_crop(resize(read_image(Path(root) / name), size), size)
    return _dataset(pixels, labels)


def image_arrays(images: Any, labels: Any = None) -> Dataset:
    """Images that are arrays already, such as Fashion-MNIST's; grey ones get one channel.

    Args:
        images: ``[rows, height, width]`` or ``[rows, height, width, 1 or 3]`` uint8.
        labels: ``[rows]`` ids; None makes an unlabelled dataset.

    Raises:
        InputError: the array has another shape or type.

    Example:
        >>> image_arrays(np.zeros((5, 28, 28), np.uint8)).columns["pixels"].shape
        (5, 28, 28, 1)
    """
    pixels = np.asarray(images)
    if pixels.dtype != np.uint8:
        raise InputError(f"images are uint8 from 0 to 255, but these are {pixels.dtype}; scale and convert them first")
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise InputError(
            f"expected images [rows, height, width] or [rows, height, width, 1 or 3], got {list(np.shape(images))}"
        )
    return _dataset(pixels.copy(), labels)


def read_image(path: str | Path) -> np.ndarray:
    """An image file as ``[height, width, 3]`` uint8.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing, damaged or no image, or its mode does not become RGB without loss.
    """
    from PIL import Image, ImageOps

    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no image {file}")
    try:
        with Image.open(file) as opened:
            # Pillow has no mode for colours of 16 bits and drops their lower half; only what it decodes from says so.
            deep = any(re.search(";16[BLN]", str(tile.args)) for tile in opened.tile)
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except Image.DecompressionBombError as error:
        raise InputError(f"{file} is too large to be safe to open: {error}") from error
    except _DAMAGED as error:
        reason = "it is no image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise InputError(f"{file} is damaged or not an image that can be read: {reason}") from error
    if image.mode not in (*_LOSSLESS, *_WITH_ALPHA):
        raise InputError(
            f"{file} is {image.mode}, which does not become 8-bit RGB without loss; convert it first, as you want it"
        )
    if deep:
        raise InputError(f"{file} has 16 bits a channel, which 8-bit RGB would lose; convert it first, as you want it")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        if (np.asarray(image)[..., 3] < 255).any():
            raise InputError(f"{file} has transparent pixels, which have no colour; put it on a background first")
    return np.asarray(image.convert("RGB"))


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes the shorter side to ``size``, bicubic and antialiased, and keeps the shape.

    Args:
        image: ``[height, width, channels]`` uint8.
        size: pixels of the shorter side.

    Example:
        >>> resize(np.zeros((20, 30, 3), np.uint8), 10).shape
        (10, 15, 3)
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter == size:
        return image
    return scale_to(image, max(size, round(height * size / shorter)), max(size, round(width * size / shorter)))


def scale_to(
    image: np.ndarray, height: int, width: int, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Resizes an image, or the part of it in a box, to a height and width, bicubic and antialiased.

    Args:
        image: ``[height, width, 1 or 3]`` uint8.
        height: rows of pixels of the result.
        width: columns of pixels of the result.
        box: left, upper, right, lower, in pixels; all of the image if not given.
    """
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))
    return scaled[..., None] if scaled.ndim == 2 else scaled


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The square in the middle.

    Args:
        image: ``[height, width, channels]``, at least ``size`` on both sides.
        size: pixels a side.

    Example:
        >>> centre_crop(np.arange(12).reshape(2, 6, 1), 2)[..., 0].tolist()
        [[2, 3], [8, 9]]
    """
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def check_side(name: str, size: int) -> None:
    """Refuses a side that is no whole number of pixels.

    Args:
        name: the argument's name, for the message.
        size: what was given.

    Raises:
        InputError: it is no whole number from 1 up.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"{name} must be a whole number of pixels from 1 up, got {size}")


def _dataset(pixels: np.ndarray, labels: Any) -> Dataset:
    pixels.setflags(write=False)
    columns: dict[str, Any] = {"pixels": pixels}
    if labels is not None:
        columns["labels"] = label_array(labels, len(pixels))
    return Dataset(MappingProxyType(columns))
