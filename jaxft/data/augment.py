"""Pixels as a model wants them, augmented on the host; the same step always sees the same pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from jaxft.data.batches import Batches, EvalBatches
from jaxft.data.images import centre_crop, check_side, resize, scale_to
from jaxft.errors import InputError
from jaxft.types import TEACHER

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""``transform(image, rng)``: [height, width, 1 or 3] uint8 -> [size, size, 3] float32."""
Channels = float | Sequence[float]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def evaluation_transform(*, size: int, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD) -> Transform:
    """Resizes the shorter side, keeps the middle square, and normalises; nothing is random.

    x = (pixel / 255 − mean) / std

    Args:
        size: pixels a side.
        mean: of each channel, or of all, in the scale from 0 to 1.
        std: likewise.

    Raises:
        InputError: the size or a std is not positive, or mean and std are neither one number nor three.

    Example:
        >>> transform = evaluation_transform(size=2, mean=0.5, std=0.5)
        >>> transform(np.full((4, 6, 1), 255, np.uint8), np.random.default_rng(0))[0, 0].tolist()
        [1.0, 1.0, 1.0]
    """
    check_side("size", size)
    normalise = _normalise(mean, std)
    return lambda image, rng: normalise(centre_crop(resize(image, size), size))


def training_transform(
    *,
    size: int,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
    jitter: float = 0.0,
) -> Transform:
    """A random crop, resized, perhaps mirrored, with colours perhaps changed, and normalised.

    Args:
        size: pixels a side.
        mean: of each channel, or of all, in the scale from 0 to 1.
        std: likewise.
        scale: the least and largest share of the area that is cropped.
        ratio: the least and largest ratio of width to height; its logarithm is uniform.
        flip: the probability that left and right change places.
        jitter: brightness, contrast and saturation are each multiplied by 1 − jitter to 1 + jitter.

    Raises:
        InputError: a setting is out of its range.

    References:
        Szegedy et al., "Going Deeper with Convolutions", 2015.
    """
    check_side("size", size)
    _check_range("scale", scale, 1.0)
    _check_range("ratio", ratio, math.inf)
    for name, value in {"flip": flip, "jitter": jitter}.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be from 0 to 1, got {value}")
    normalise = _normalise(mean, std)

    def transform(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        # All draws are made, whatever the settings: what one row sees does not depend on a setting of another kind.
        draws = rng.random(8)
        cropped = scale_to(image, size, size, _crop(image, draws[:4], scale, ratio))
        if draws[4] < flip:
            cropped = cropped[:, ::-1]
        return normalise(_jitter(cropped, 1 + jitter * (2 * draws[5:] - 1)) if jitter else cropped)

    return transform


class Transformed:
    """Batches whose ``pixels`` have gone through a transform. Made by `augmented`.

    Attributes:
        batches: what the images are read from.
        transform: what each goes through.
        seed: with the step and the place in the batch, all that randomness depends on.
    """

    def __init__(self, batches: Batches | EvalBatches, transform: Transform, seed: int) -> None:
        self.batches = batches
        self.transform = transform
        self.seed = seed

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        batch = self.batches[step]
        # The upper words of the counter keep the rows' streams apart, and apart from the one that orders the batches.
        streams = (
            np.random.Philox(key=np.array([self.seed, step], np.uint64), counter=[0, 0, row + 1, 1])
            for row in range(len(batch["mask"]))
        )
        rows = [
            self.transform(image, np.random.Generator(stream))
            for image, stream in zip(batch["pixels"], streams, strict=True)
        ]
        return batch | {"pixels": np.stack(rows)}


class TrainingImages(Transformed):
    """Endless batches, as `Batches`."""

    batches: Batches

    @property
    def steps_per_epoch(self) -> int:
        """Batches that visit every row once."""
        return self.batches.steps_per_epoch

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        step = 0
        while True:
            yield self[step]
            step += 1

    def epoch(self, number: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of one epoch, counted from 0."""
        for step in range(number * self.steps_per_epoch, (number + 1) * self.steps_per_epoch):
            yield self[step]


class EvaluationImages(Transformed):
    """The rows in order, once, as `EvalBatches`."""

    batches: EvalBatches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for place in range(len(self)):
            yield self[place]


@overload
def augmented(batches: Batches, transform: Transform, *, seed: int = 0) -> TrainingImages: ...
@overload
def augmented(batches: EvalBatches, transform: Transform, *, seed: int = 0) -> EvaluationImages: ...
def augmented(
    batches: Batches | EvalBatches, transform: Transform, *, seed: int = 0
) -> TrainingImages | EvaluationImages:
    """Puts the ``pixels`` of batches through a transform as they are cut.

    What a row becomes is a function of the seed, the step and its place in the batch alone: a resumed run goes on at
    the next step and sees what it would have seen.

    Args:
        batches: of a dataset with the column ``pixels`` (see `read_images` and `image_arrays`).
        transform: see `training_transform` and `evaluation_transform`.
        seed: what the randomness depends on, from 0 to 2⁶⁴ − 1.

    Raises:
        InputError: the dataset has no pixels of uint8, or has columns of a teacher; the seed is out of range.

    Example:
        >>> from jaxft.data import batches, image_arrays
        >>> data = image_arrays(np.zeros((4, 28, 28), np.uint8), labels=np.arange(4))
        >>> stream = augmented(batches(data, batch_size=2, seed=0), training_transform(size=32), seed=0)
        >>> {name: (array.shape, array.dtype.name) for name, array in stream[3].items() if name == "pixels"}
        {'pixels': ((2, 32, 32, 3), 'float32')}
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise InputError(f"the seed must be an integer from 0 to 2**64 - 1, got {seed}")
    pixels: Any = batches.dataset.columns.get("pixels")
    shape: tuple[int, ...] = getattr(pixels, "shape", ())
    if len(shape) != 4 or shape[-1] not in (1, 3) or pixels.dtype != np.uint8:
        found = "none" if pixels is None else f"{list(shape)} of {getattr(pixels, 'dtype', type(pixels).__name__)}"
        raise InputError(
            f"expected a column 'pixels' [rows, height, width, 1 or 3] of uint8, got {found}; make it with read_images "
            "or image_arrays"
        )
    if told := [name for name in batches.dataset.columns if name.startswith(TEACHER)]:
        raise InputError(
            f"the column {told[0]!r} is what a teacher said of the pictures as they are, not of those that a transform "
            "makes of them: name the teacher in the objective, so that it sees what the student sees"
        )
    if isinstance(batches, EvalBatches):
        return EvaluationImages(batches, transform, int(seed))
    return TrainingImages(batches, transform, int(seed))


def _crop(
    image: np.ndarray, draws: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge of a random box; a side that would be longer than the image's is cut to it."""
    height, width = image.shape[:2]
    area = height * width * (scale[0] + draws[0] * (scale[1] - scale[0]))
    shape = math.exp(math.log(ratio[0]) + draws[1] * math.log(ratio[1] / ratio[0]))
    box_width, box_height = min(width, math.sqrt(area * shape)), min(height, math.sqrt(area / shape))
    left, top = draws[2] * (width - box_width), draws[3] * (height - box_height)
    return left, top, min(width, left + box_width), min(height, top + box_height)


def _jitter(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    brightness, contrast, saturation = factors.astype(np.float32)
    pixels = np.clip(image.astype(np.float32) * brightness, 0, 255)
    grey = _grey(pixels).mean()
    pixels = np.clip(grey + (pixels - grey) * contrast, 0, 255)
    grey = _grey(pixels)
    return np.clip(grey + (pixels - grey) * saturation, 0, 255)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Luma as in ITU-R BT.601, ``[height, width, 1]``."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return pixels if pixels.shape[-1] == 1 else (pixels @ weights)[..., None]


def _normalise(mean: Channels, std: Channels) -> Callable[[np.ndarray], np.ndarray]:
    centre, spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    if centre.shape not in ((), (3,)) or spread.shape not in ((), (3,)) or not (spread > 0).all():
        raise InputError(f"mean and std are one number or three, each std above 0, got {mean} and {std}")

    def normalise(image: np.ndarray) -> np.ndarray:
        colours = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)
        return (colours / np.float32(255) - centre) / spread

    return normalise


def _check_range(name: str, bounds: tuple[float, float], largest: float) -> None:
    if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= largest or math.isinf(bounds[1]):
        raise InputError(f"{name} must be two numbers above 0, in order and none above {largest}, got {bounds}")
