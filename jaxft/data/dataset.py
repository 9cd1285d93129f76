"""Rows as arrays: dense columns, and ragged ones that are padded when a batch is cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxft.errors import InputError

SOURCE_MASK = "attention_mask"
TARGET_MASK = "decoder_attention_mask"
_NARROW = {"float64": np.dtype("float32"), "int64": np.dtype("int32"), "uint64": np.dtype("uint32")}


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, end to end.

    Attributes:
        values: ``[sum of lengths]``, or ``[sum of lengths, …]`` for more than a number a token.
        offsets: ``[rows + 1]``: row i is ``values[offsets[i]:offsets[i + 1]]``.
        fill: what a row is padded with on its right.
        mask: the name under which a batch says which places are no padding. Columns of one mask have equal offsets;
            ``decoder_attention_mask`` is that of the targets of a sequence-to-sequence model.
    """

    values: np.ndarray
    offsets: np.ndarray
    fill: int = 0
    mask: str = SOURCE_MASK

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The length of each row, ``[rows]``."""
        return np.diff(self.offsets)

    def rows(self, index: np.ndarray, length: int) -> np.ndarray:
        """The rows at ``index``, padded to ``[len(index), length, …]``."""
        starts, ends = self.offsets[index], self.offsets[index + 1]
        places = starts[:, None] + np.arange(length)
        inside = places < ends[:, None]
        rest = self.values.shape[1:]
        if not len(self.values):
            return np.full((*places.shape, *rest), self.fill, self.values.dtype)
        found = self.values[np.where(inside, places, 0)]
        seen = inside.reshape(*inside.shape, *[1] * len(rest))
        return np.where(seen, found, self.fill).astype(self.values.dtype)


@dataclass(frozen=True)
class Dataset:
    """All rows of a split, ready to be cut into batches.

    Attributes:
        columns: name -> ``[rows, …]`` array, or Ragged rows of tokens. Ragged columns with one mask are as long as
            each other in every row.
        max_length: the longest row that is allowed, in tokens; None when no column is ragged.
        truncated: how many texts were cut to max_length or max_target_length: one a row, or a source and its target.
        max_target_length: the longest target that is allowed; None when there are no targets.

    Raises:
        InputError: ragged columns with one mask differ in length.
    """

    columns: Mapping[str, np.ndarray | Ragged]
    max_length: int | None = None
    truncated: int = 0
    max_target_length: int | None = None

    def __post_init__(self) -> None:
        first: dict[str, tuple[str, Ragged]] = {}
        for name, column in self.columns.items():
            if isinstance(column, Ragged):
                other, like = first.setdefault(column.mask, (name, column))
                if like.offsets is not column.offsets and not np.array_equal(like.offsets, column.offsets):
                    raise InputError(
                        f"the rows of {name!r} must be as long as those of {other!r}, as one {column.mask} covers both"
                    )

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def lengths(self) -> np.ndarray | None:
        """The tokens of each row, targets apart, ``[rows]``; None when no column is ragged."""
        for column in self.columns.values():
            if isinstance(column, Ragged) and column.mask == SOURCE_MASK:
                return column.lengths
        return None

    def rows(self, index: np.ndarray, length: int | None = None) -> dict[str, np.ndarray]:
        """The rows at ``index`` as a dict of ``[len(index), …]`` arrays.

        Args:
            index: which rows, ``[n]`` integers.
            length: tokens to pad ragged rows to; max_length if not given. Padding has attention mask 0. Targets are
                always padded to max_target_length (the longest of them, if that is None).
        """
        length = length or self.max_length or 0
        batch = {}
        for name, column in self.columns.items():
            if isinstance(column, Ragged):
                width = length if column.mask == SOURCE_MASK else self.max_target_length or int(column.lengths.max())
                batch[name] = column.rows(index, width)
                if column.mask not in batch:
                    batch[column.mask] = (np.arange(width) < column.lengths[index, None]).astype(np.int32)
            else:
                batch[name] = column[index]
        return batch


def arrays(columns: Mapping[str, Any]) -> Dataset:
    """A dataset of arrays that are already numbers, such as images and their labels.

    Floats become float32 and integers of 64 bits become 32, as JAX computes with them.

    Args:
        columns: name -> ``[rows, …]`` array; ``labels`` is the name objectives look for.

    Raises:
        InputError: there is no row, the columns differ in length, a value is not a number, a label is NaN, an
            integer does not fit 32 bits, or a column is named ``mask``, which batches add.

    Example:
        >>> import numpy as np
        >>> digits = arrays({"image": np.zeros((5, 8, 8)), "labels": np.arange(5)})
        >>> len(digits), digits.rows(np.array([3]))["labels"].tolist()
        (5, [3])
    """
    fixed = {name: _number_array(name, column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in fixed.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise InputError(f"the columns must have one length of at least one row, got {lengths}")
    return Dataset(MappingProxyType(dict(fixed)))


def _number_array(name: str, column: Any) -> np.ndarray:
    if name == "mask":
        raise InputError("a column cannot be named 'mask': batches mark their padding rows with it")
    array = np.array(column)
    if array.ndim == 0 or (array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16"):
        raise InputError(f"the column {name!r} must be an array of numbers, one entry a row, got {array.dtype}")
    if name == "labels" and array.dtype.kind == "f" and np.isnan(array).any():
        rows = np.unique(np.nonzero(np.isnan(array))[0])
        raise InputError(f"'labels' is NaN in row {rows[0] + 1} and {len(rows) - 1} more; fill or remove such rows")
    narrow = array.astype(_NARROW.get(array.dtype.name, array.dtype))
    if array.dtype.kind in "iu" and not np.array_equal(narrow, array):
        raise InputError(f"the column {name!r} holds integers beyond 32 bits")
    narrow.setflags(write=False)
    return narrow


def ragged(rows: Iterable[Sequence[int] | np.ndarray], *, fill: int = 0, mask: str = SOURCE_MASK) -> Ragged:
    """Lists of integers end to end, as a column of a Dataset.

    Args:
        rows: the rows, each of integers.
        fill: what a row is padded with on its right; -100 for the labels of tokens.
        mask: see `Ragged`.

    Example:
        >>> column = ragged([[5, 6, 7], [8]], fill=-100)
        >>> column.rows(np.array([1, 0]), 4).tolist()
        [[8, -100, -100, -100], [5, 6, 7, -100]]
    """
    parts = [np.asarray(row, np.int32) for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)])
    values = np.concatenate([np.zeros(0, np.int32), *parts])
    for array in (values, offsets):
        array.setflags(write=False)
    return Ragged(values, offsets, fill, mask)
