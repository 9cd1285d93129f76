"""Where every run of a structure starts from: the activations of layers that no run changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxft.study.experiment import Experiment, step_of
from jaxft.study.feed import whole
from jaxft.study.predictions import rows_a_batch
from jaxft.study.prefix import Prefix, find_prefix, known_leaves
from jaxft.study.prefix_columns import PrefixRefused
from jaxft.study.prepare import Prepared
from jaxft.types import PREFIX, Params, StepFrozen, TrainState, is_input

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """A model and its rows, from the first layer that learns on.

    Attributes:
        prepared: the rows, with their activations where some are kept.
        train: ``apply`` of training.
        measure: ``apply`` of evaluations.
        saved: the share of the forward pass in training that is computed once, 0 to 1.
    """

    prepared: Prepared
    train: Callable[..., Any]
    measure: Callable[..., Any]
    saved: float


def start_of(experiment: Experiment, prepared: Prepared, *, limit: int) -> Start:
    """Computes what no run changes, where that is exact and fits.

    Args:
        experiment: settings may be traced; what depends on them is not known.
        prepared: its rows.
        limit: bytes that the activations may take.
    """
    apply = experiment.model.apply
    if first_state(experiment, prepared)[1].stats is not None:
        return Start(prepared, apply, apply, 0.0)  # running statistics move, and all above them with them
    key = jax.random.key(0)
    frozen, delta = experiment.adaptation.init(key, experiment.model.params)
    params = experiment.adaptation.bind(frozen, delta, key=key)
    known = known_leaves(experiment.adaptation, frozen, delta, key)
    train, saved = _with_activations(apply, params, known, prepared.train, experiment.batch_size, limit)
    if train is None:
        return Start(prepared, apply, apply, 0.0)
    still = experiment.adaptation.bind(frozen, delta)
    known = known_leaves(experiment.adaptation, frozen, delta, None)
    held_out, _ = _with_activations(apply, still, known, prepared.held_out, None, limit)
    return Start(
        Prepared(train.parts, prepared.held_out if held_out is None else held_out.parts),
        train.apply,
        apply if held_out is None else held_out.apply,
        saved,
    )


def first_state(experiment: Experiment, prepared: Prepared) -> tuple[StepFrozen, TrainState]:
    """What a step starts with: shapes, and the values of what depends on neither seed nor traced settings."""
    step = step_of(experiment, experiment.model.apply)
    return step.init(jax.random.key(0), experiment.model.params, first_batch(experiment, prepared))


def first_batch(experiment: Experiment, prepared: Prepared) -> Any:
    """A batch of the shape that every step takes: the first row again and again."""
    rows = np.zeros(experiment.batch_size, np.int32)
    return whole(
        {
            view: {name: column[rows] for name, column in part.items()} | {"mask": rows == 0}
            for view, part in prepared.train.items()
        }
    )


class _Kept(NamedTuple):
    parts: Any
    apply: Callable[..., Any]


def _with_activations(
    apply: Callable[..., Any],
    params: Params,
    known: Any,
    parts: Mapping[Any, Mapping[str, np.ndarray]],
    batch_size: int | None,
    limit: int,
) -> tuple[_Kept | None, float]:
    """The parts of the data with their activations; None where they are not known or do not fit."""
    found: dict[Any, Any] = {}
    prefix: Prefix | None = None
    if len({_shapes(part) for part in parts.values()}) > 1:
        logger.info("no activations are kept: the rows of %s differ in shape", ", ".join(map(str, parts)))
        return None, 0.0
    for name, part in parts.items():
        inputs = {column: values for column, values in part.items() if is_input(column)}
        rows = len(next(iter(inputs.values())))
        size = rows_a_batch(rows) if batch_size is None else batch_size
        if prefix is None:
            example = {column: values[np.arange(size) % rows] for column, values in inputs.items()}
            prefix = find_prefix(apply, params, known, example, train=batch_size is not None)
        if prefix is None or prefix.bytes_per_row * sum(len(next(iter(p.values()))) for p in parts.values()) > limit:
            return None, 0.0
        try:
            found[name] = {**part, PREFIX: prefix.columns(inputs, size)}
        except PrefixRefused as refusal:
            logger.info("no activations are kept: %s", refusal)
            return None, 0.0
    return (None, 0.0) if prefix is None else (_Kept(found, prefix.apply), prefix.saved)


def _shapes(part: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    return tuple(sorted((name, v.shape[1:]) for name, v in part.items() if is_input(name)))
