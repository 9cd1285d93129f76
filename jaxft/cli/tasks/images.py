"""``--task images``: images, each with one label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.cli.tasks.classify import FIGURES, check_names, cross_entropy, names, probable
from jaxft.cli.tasks.task import Configuration, Labels, Learned, Task, nothing
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.data import Dataset, EvaluationImages, Table, TrainingImages
    from jaxft.types import Batch, Model

_SIZE = 224
_SEED = 1
"""Of the random crops, apart from that of the order."""


def _read(source: str, labelled: bool) -> Table:
    from jaxft.data import Table, class_folders, read_table

    path = Path(source)
    if path.is_dir():
        rows = class_folders(path) if labelled or _has_folders(path) else _flat(path)
    else:
        rows = read_table(source, require=("image", "label") if labelled else ("image",))
        root = path.parent
        for row, name in enumerate(rows["image"]):
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"'image' must be a file name, but {rows.where(row)} has {name!r}")
        rows = Table({**rows.columns, "image": tuple(str(root / n) for n in rows["image"])}, rows.source, rows.lines)
    return Table({**rows.columns, "sha256": tuple(map(_content, rows["image"]))}, rows.source, rows.lines)


def _has_folders(path: Path) -> bool:
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir())


def _flat(path: Path) -> Table:
    """The images of a directory without folders, to predict."""
    from jaxft.data import Table
    from jaxft.data.images import SUFFIXES

    files = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path} holds no image; expected files ending in {', '.join(SUFFIXES)}")
    return Table.of({"image": files}, str(path))


def _content(file: str) -> str:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"there is no image {file} ({error.strerror}); names in a table begin where it lies"
        ) from error


def image_size(model: Model, wanted: int | None) -> int:
    """Pixels a side: those of the model, or what was asked for where it takes any.

    Raises:
        InputError: the model takes another size, or images that are not square.
    """
    size = model.config.image_size
    if size is None:
        return _SIZE if wanted is None else wanted
    height, width = size
    if height != width:
        raise InputError(f"the model reads images of {height} x {width}, but images are cut square here")
    if wanted not in (None, height):
        raise InputError(f"--image-size {wanted} is not the model's: it reads {height} x {width}; leave it out")
    return int(height)


def _pixels(model: Model, configuration: Configuration, rows: Table, labels: Any, size: int) -> Dataset:
    from jaxft.data import read_images

    if model.config.channels != 3:
        raise InputError(
            f"the model {configuration['model']} reads images of {model.config.channels} channels, but files are read "
            "as RGB: choose a model of 3"
        )
    return read_images(rows, size=size, labels=labels)


def _dataset(model: Model, configuration: Configuration, rows: Table, labels: Labels) -> Dataset:
    from jaxft.data import Vocabulary

    ids = Vocabulary(labels).ids(rows)
    return _pixels(model, configuration, rows, ids, configuration["image_size"])


def _training(model: Model, configuration: Configuration, dataset: Dataset) -> TrainingImages:
    from jaxft.data import augmented, batches, training_transform

    size, seed = configuration["batch_size"], configuration["seed"]
    config = model.config
    transform = training_transform(
        size=configuration["image_size"],
        mean=config.mean,
        std=config.std,
        scale=(0.35, 1.0),
        flip=configuration["flip"],
    )
    return augmented(batches(dataset, batch_size=size, seed=seed), transform, seed=seed + _SEED)


def _ordered(learned: Learned, dataset: Dataset) -> EvaluationImages:
    from jaxft.data import augmented, eval_batches, evaluation_transform

    config = learned.model.config
    transform = evaluation_transform(size=learned.configuration["image_size"], mean=config.mean, std=config.std)
    return augmented(eval_batches(dataset, batch_size=2 * learned.configuration["batch_size"]), transform)


def _example(model: Model, configuration: Configuration, rows: int) -> Batch:
    import numpy as np

    side = configuration["image_size"]
    pixels = np.random.default_rng(0).normal(size=(rows, side, side, model.config.channels)).astype(np.float32)
    return {"pixels": pixels, "labels": np.zeros(rows, np.int32), "mask": np.ones(rows, bool)}


def _evaluate(learned: Learned, rows: Table, dataset: Dataset) -> dict[str, float]:
    from jaxft.train import evaluate

    return evaluate(learned.model.apply, learned.params, _ordered(learned, dataset))


def _predict(learned: Learned, rows: Table) -> Iterator[dict[str, Any]]:
    from jaxft.train import predict

    dataset = _pixels(learned.model, learned.configuration, rows, None, learned.configuration["image_size"])
    logits = predict(learned.model.apply, learned.params, _ordered(learned, dataset))
    for image, found in zip(rows["image"], probable(logits, learned.labels), strict=True):
        yield {"image": image} | found


IMAGES = Task(
    name="images",
    model_task="classify",
    options={"image_size": None, "flip": 0.5},
    columns=("sha256", "label"),
    read=_read,
    labels=names,
    check=check_names,
    dataset=_dataset,
    training=_training,
    describe=nothing,
    objective=cross_entropy,
    example=_example,
    evaluate=_evaluate,
    figures=FIGURES,
    best=("accuracy", "max"),
    loss="cross-entropy (nats)",
    predict=_predict,
    predicted="labels",
    reads="images",
)
