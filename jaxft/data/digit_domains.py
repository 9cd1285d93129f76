"""Two sources of written digits, the same ten classes in two hands, and the shift between them."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxft.data.fashion_mnist import Images, ImageSplit
from jaxft.errors import InputError, nearest
from jaxft.files import fetch

DIGITS = tuple("0123456789")
DIGIT_DOMAINS = ("mnist", "optdigits")
_FOLDS = 5


class Pixels(NamedTuple):
    """The rows of one domain.

    Attributes:
        train: ``pixels`` ``[rows, size, size, 1]`` float32 from 0 to 1 and, where there are any, int32 ``labels``.
        test: the same, with labels.
    """

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]


class PixelShift(NamedTuple):
    """Two domains of pictures for adaptation from one to the other.

    Attributes:
        source: rows with labels.
        target: rows whose ``train`` has no labels; its ``test`` has them, to measure with.
    """

    source: Pixels
    target: Pixels


def mnist() -> ImageSplit:
    """MNIST, 28 x 28: 400 pictures of each digit to train on, and every fifth of them in their order, 100, to test on.

    The asset is a sample of 5,000 of the 60,000 training pictures. Licence: BSD.

    Raises:
        InputError: the asset cannot be fetched or is damaged.

    Example:
        >>> mnist().train.images.shape  # doctest: +SKIP
        (4000, 28, 28)

    References:
        LeCun et al. (1998), Gradient-based learning applied to document recognition.
    """
    path = fetch("mnist") / "mnist_5k.csv.gz"
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
        table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.float32)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): fetch it again") from error
    if table.shape != (5000, 785):
        raise InputError(f"{path} is damaged ({list(table.shape)} numbers, not 5000 x 785): fetch it again")
    return _split(table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(np.int32))


def optdigits() -> ImageSplit:
    """Digits of the UCI repository, 8 x 8 with values from 0 to 16: 1,442 pictures to train on and 355 to test on.

    They come with scikit-learn; every fifth of each digit in their order is a test picture.

    Example:
        >>> optdigits().train.images.shape
        (1442, 8, 8)

    References:
        Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    return _split(found.images.astype(np.uint8), found.target.astype(np.int32))


def digits(*, source: str, target: str, size: int = 16) -> PixelShift:
    """Written digits in two hands: a source with labels and a target without.

    Pictures of both are brought to the same size (bilinear, smoothed where it shrinks) and to values from 0 to 1.

    Args:
        source: "mnist" or "optdigits".
        target: the other one, or the same for a domain without shift.
        size: of the pictures, in pixels.

    Raises:
        InputError: there is no such domain, the size is below one, or an asset cannot be fetched.

    Example:
        >>> shift = digits(source="optdigits", target="optdigits")
        >>> shift.source.train["pixels"].shape, sorted(shift.target.train)
        ((1442, 16, 16, 1), ['pixels'])
    """
    for name in (source, target):
        if name not in DIGIT_DOMAINS:
            raise InputError(f"there is no domain {name!r} ({nearest(name, DIGIT_DOMAINS)})")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"size is a whole number of pixels from 1 up, but is {size!r}")
    labelled, other = _pixels(source, size), _pixels(target, size)
    return PixelShift(labelled, other._replace(train={"pixels": other.train["pixels"]}))


def _split(images: np.ndarray, labels: np.ndarray) -> ImageSplit:
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), np.intp)
    place[order] = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
    out = place % _FOLDS == _FOLDS - 1
    return ImageSplit(Images(images[~out], labels[~out]), Images(images[out], labels[out]), DIGITS)


def _pixels(domain: str, size: int) -> Pixels:
    split, largest = (mnist(), 255) if domain == "mnist" else (optdigits(), 16)
    return Pixels(_resized(split.train, size, largest), _resized(split.test, size, largest))


def _resized(part: Images, size: int, largest: int) -> dict[str, np.ndarray]:
    grey = (part.images.astype(np.float32) / largest).astype(np.float32)
    resized = [np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR)) for one in grey]
    return {"pixels": np.stack(resized)[..., None], "labels": part.labels}
