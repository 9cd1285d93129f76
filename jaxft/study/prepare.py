"""From the data of an experiment to arrays of one shape, ready to lie on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxft.data import Dataset, Table, arrays, float_labels, tokenise, vocabulary
from jaxft.errors import InputError
from jaxft.study.experiment import Experiment, task_of

Columns = dict[str, np.ndarray]
MULTIPLE = 8
"""Rows of tokens are padded to a multiple of so many: shapes that suit every device, and few of them."""


class Prepared(NamedTuple):
    """All rows of an experiment.

    Attributes:
        train: the columns of every view, ``[rows, …]`` each; the one view of plain data is named None.
        held_out: "test", and "validation" where there is one, to their columns.
    """

    train: dict[str | None, Columns]
    held_out: dict[str, Columns]

    @property
    def nbytes(self) -> int:
        """The size of all columns."""
        parts = [*self.train.values(), *self.held_out.values()]
        return sum(column.nbytes for part in parts for column in part.values())


def prepare(experiment: Experiment) -> Prepared:
    """Tokenises and pads the data of an experiment.

    Raises:
        InputError: a part is missing or is no data, or its rows have no labels to measure with.
    """
    data = experiment.data
    source, target = _part(data, "source"), _part(data, "target")
    if source is not None and target is not None:
        views: Mapping[str | None, Any] = {"source": _part(source, "train"), "target": _part(target, "train")}
        held_out = {"test": _part(target, "test"), "validation": _part(target, "validation")}
    else:
        train = _part(data, "train")
        views = train if _names_views(train) else {None: train}
        held_out = {"test": _part(data, "test"), "validation": _part(data, "validation")}
    if None in views.values() or held_out["test"] is None:
        raise InputError(
            f"the data of an experiment needs train and test, as attributes or keys, but is a {type(data).__name__}"
        )
    prepared = Prepared(
        {name: _columns(part, experiment, f"train {name or ''}".strip()) for name, part in views.items()},
        {name: _columns(part, experiment, name) for name, part in held_out.items() if part is not None},
    )
    for name, columns in prepared.held_out.items():
        if "labels" not in columns:
            raise InputError(f"the {name} rows have no labels to measure with")
    return prepared


def _part(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else getattr(data, name, None)


def _names_views(train: Any) -> bool:
    return isinstance(train, Mapping) and any(isinstance(part, Table | Dataset | Mapping) for part in train.values())


def _columns(part: Any, experiment: Experiment, name: str) -> Columns:
    if isinstance(part, Table):
        if experiment.model.tokenizer is None:
            raise InputError(f"the {name} rows are texts, but the model has no tokenizer to read them")
        part = tokenise(
            experiment.model.tokenizer,
            part,
            max_length=experiment.max_length,
            labels=_labels(part, experiment) if "label" in part else None,
        )
    elif isinstance(part, Mapping):
        part = arrays(part)
    if not isinstance(part, Dataset):
        raise InputError(
            f"the {name} rows are a {type(part).__name__}; expected a Table, a Dataset or a dict of arrays"
        )
    length = None if part.lengths is None else -(-int(part.lengths.max()) // MULTIPLE) * MULTIPLE
    return part.rows(np.arange(len(part)), length)


def _labels(table: Table, experiment: Experiment) -> np.ndarray:
    """Numbers as they are for regression; else ids in the vocabulary of the data, or of its training rows."""
    if task_of(experiment) == "regress":
        return float_labels(table)
    source = _part(experiment.data, "source")
    data = experiment.data if source is None else source
    known = _part(data, "labels")
    return (vocabulary(_part(data, "train")) if known is None else known).ids(table)
