"""Deterministic batches: what a step sees is a function of (dataset, seed, step), so a position is one integer."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxft.data.dataset import Dataset, Ragged
from jaxft.errors import InputError


class _Plan(NamedTuple):
    """One epoch: the rows of each batch, and the length each is padded to."""

    rows: tuple[np.ndarray, ...]
    lengths: tuple[int | None, ...]


class Batches:
    """Endless shuffled batches with random access: ``batches[step]`` is the batch of that global step.

    Made by `batches`.

    Attributes:
        dataset: the rows.
        batch_size: rows in every batch, padding rows included.
        seed: with the step, all that the order depends on.
        lengths: the lengths rows are padded to, ascending; None when rows have no length.
        steps_per_epoch: batches that visit every row once; the same in each epoch.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, lengths: tuple[int, ...] | None) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = lengths
        self._buckets = _buckets(dataset, lengths)
        # One plan is kept: steps are read in order, and a plan is cheap to make again.
        self._kept: tuple[int, _Plan] = (0, self._plan(0))
        self.steps_per_epoch = len(self._kept[1].rows)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        step = operator.index(step)
        if step < 0:
            raise IndexError(f"a step is counted from 0, got {step}")
        epoch, place = divmod(step, self.steps_per_epoch)
        kept, plan = self._kept
        if kept != epoch:
            plan = self._plan(epoch)
            self._kept = (epoch, plan)
        return _cut(self.dataset, plan.rows[place], plan.lengths[place], self.batch_size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        step = 0
        while True:
            yield self[step]
            step += 1

    def epoch(self, number: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """The batches of one epoch, counted from 0; together they hold every row once."""
        for step in range(number * self.steps_per_epoch, (number + 1) * self.steps_per_epoch):
            yield self[step]

    def _plan(self, epoch: int) -> _Plan:
        # Raw Philox words are the same in every numpy release, which Generator.permutation does not promise.
        words = np.random.Philox(key=np.array([self.seed, epoch], np.uint64))
        order = np.argsort(words.random_raw(len(self.dataset)), kind="stable")
        rows: list[np.ndarray] = []
        lengths: list[int | None] = []
        carried = order[:0]
        used = np.unique(self._buckets)
        for bucket in used:
            inside = np.concatenate([carried, order[self._buckets[order] == bucket]])
            # Rows that do not fill a batch move up a bucket, so an epoch has at most one partial batch.
            whole = len(inside) if bucket == used[-1] else len(inside) - len(inside) % self.batch_size
            inside, carried = inside[:whole], inside[whole:]
            cuts = range(0, whole, self.batch_size)
            rows += [inside[cut : cut + self.batch_size] for cut in cuts]
            lengths += [self.lengths[bucket] if self.lengths else None] * len(cuts)
        shuffled = np.argsort(words.random_raw(len(rows)), kind="stable")
        return _Plan(tuple(rows[i] for i in shuffled), tuple(lengths[i] for i in shuffled))


class EvalBatches:
    """The rows of a dataset in order, once; the last batch is padded. Made by `eval_batches`.

    Attributes:
        dataset: the rows.
        batch_size: rows in every batch, padding rows included.
        lengths: the lengths batches are padded to, ascending; None when rows have no length.
    """

    def __init__(self, dataset: Dataset, batch_size: int, lengths: tuple[int, ...] | None) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.lengths = lengths
        self._buckets = _buckets(dataset, lengths)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        place = operator.index(place)
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} batches, got place {place}")
        rows = np.arange(place * self.batch_size, min((place + 1) * self.batch_size, len(self.dataset)))
        length = self.lengths[self._buckets[rows].max()] if self.lengths else None
        return _cut(self.dataset, rows, length, self.batch_size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for place in range(len(self)):
            yield self[place]


class ViewBatches:
    """Batches of several datasets side by side, ``{name: batch}``. Made by `views`.

    Attributes:
        parts: name -> Batches.
        steps_per_epoch: the longest part's; the shorter ones are reshuffled and repeat meanwhile.
    """

    def __init__(self, parts: Mapping[str, Batches]) -> None:
        self.parts = dict(parts)
        self.steps_per_epoch = max(part.steps_per_epoch for part in self.parts.values())

    def __getitem__(self, step: int) -> dict[str, dict[str, np.ndarray]]:
        return {name: part[step] for name, part in self.parts.items()}

    def __iter__(self) -> Iterator[dict[str, dict[str, np.ndarray]]]:
        step = 0
        while True:
            yield self[step]
            step += 1


def batches(dataset: Dataset, *, batch_size: int, seed: int, lengths: Sequence[int] | None = None) -> Batches:
    """Shuffles a dataset into endless batches of fixed shapes, reachable by step.

    An epoch visits every row once. A batch that rows do not fill repeats one of its rows with ``mask`` False and
    labels 0 (-100 where each token has one), so shapes stay fixed and every row of tokens stays a valid one. The
    order is computed from ``(seed, epoch)`` alone: to resume, go on at the next step.

    Args:
        dataset: what `tokenise` or `arrays` made.
        batch_size: rows a batch.
        seed: what the order depends on, from 0 to 2⁶⁴ − 1.
        lengths: buckets, in tokens: a row is padded to the smallest that holds it, and each is one compiled
            shape. By default every row is padded to the dataset's max_length.

    Raises:
        InputError: the batch size or seed is out of range, the dataset is empty or has no lengths, or the largest
            bucket does not hold the longest row.

    Example:
        >>> import numpy as np
        >>> from jaxft.data import arrays
        >>> stream = batches(arrays({"x": np.arange(5.0), "labels": np.arange(5)}), batch_size=2, seed=0)
        >>> stream.steps_per_epoch
        3
        >>> sorted(int(x) for batch in stream.epoch() for x in batch["labels"][batch["mask"]])
        [0, 1, 2, 3, 4]
        >>> next(stream.epoch(2))["labels"].tolist() == stream[6]["labels"].tolist()
        True
    """
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise InputError(f"the seed must be an integer from 0 to 2**64 - 1, got {seed}")
    return Batches(dataset, _positive("batch_size", batch_size), int(seed), _lengths(dataset, lengths))


def eval_batches(dataset: Dataset, *, batch_size: int, lengths: Sequence[int] | None = None) -> EvalBatches:
    """Cuts a dataset into batches in its own order; the last is padded with rows whose ``mask`` is False.

    Args:
        dataset: what `tokenise` or `arrays` made.
        batch_size: rows a batch.
        lengths: buckets, in tokens: a batch is padded to the smallest that holds its longest row. By default
            the dataset's max_length.

    Raises:
        InputError: as `batches`.

    Example:
        >>> import numpy as np
        >>> from jaxft.data import arrays
        >>> [batch["mask"].tolist() for batch in eval_batches(arrays({"x": np.ones(3)}), batch_size=2)]
        [[True, True], [True, False]]
    """
    return EvalBatches(dataset, _positive("batch_size", batch_size), _lengths(dataset, lengths))


def views(**parts: Batches) -> ViewBatches:
    """Puts batches of several datasets side by side, one view each, for objectives that name a view.

    An epoch is the longest view's; a shorter view starts its next epoch, in a new order, meanwhile. With
    buckets, every pair of lengths that meets is a shape to compile: prefer one length.

    Args:
        parts: name -> Batches. Leave the labels out of an unlabelled view when its dataset is made.

    Raises:
        InputError: there is no view.

    Example:
        >>> import numpy as np
        >>> from jaxft.data import arrays
        >>> source = batches(arrays({"x": np.ones(4), "labels": np.arange(4)}), batch_size=2, seed=0)
        >>> target = batches(arrays({"x": np.ones(6)}), batch_size=2, seed=0)
        >>> both = views(source=source, target=target)
        >>> both.steps_per_epoch, {name: sorted(batch) for name, batch in both[5].items()}
        (3, {'source': ['labels', 'mask', 'x'], 'target': ['mask', 'x']})
    """
    if not parts:
        raise InputError("expected at least one view, such as views(source=…, target=…)")
    return ViewBatches(parts)


def _cut(dataset: Dataset, rows: np.ndarray, length: int | None, batch_size: int) -> dict[str, np.ndarray]:
    mask = np.arange(batch_size) < len(rows)
    padded = np.concatenate([rows, np.full(batch_size - len(rows), rows[0])])
    batch = dataset.rows(padded, length)
    if "labels" in batch:
        labels = dataset.columns["labels"]
        batch["labels"][~mask] = labels.fill if isinstance(labels, Ragged) else 0
    return batch | {"mask": mask}


def _positive(name: str, value: int) -> int:
    if not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} must be a whole number from 1 up, got {value}")
    return int(value)


def _lengths(dataset: Dataset, lengths: Sequence[int] | None) -> tuple[int, ...] | None:
    if not len(dataset):
        raise InputError("a dataset without rows cannot be cut into batches")
    of_rows = dataset.lengths
    if of_rows is None:
        if lengths is not None:
            raise InputError("lengths are for rows of tokens; this dataset has only arrays of fixed shape")
        return None
    longest = int(of_rows.max())
    allowed = tuple(sorted({_positive("a length", length) for length in lengths or (dataset.max_length or longest,)}))
    if longest > allowed[-1]:
        raise InputError(
            f"the longest row has {longest} tokens but the largest of lengths is {allowed[-1]}; "
            "add a longer bucket or tokenise with a smaller max_length"
        )
    return allowed


def _buckets(dataset: Dataset, lengths: tuple[int, ...] | None) -> np.ndarray:
    of_rows = dataset.lengths
    if lengths is None or of_rows is None:
        return np.zeros(len(dataset), np.intp)
    return np.searchsorted(np.array(lengths), of_rows)
