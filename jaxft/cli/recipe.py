"""A configuration as a training step, built the same when a run starts, resumes and is read back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxft.cli.method import adaptation
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.types import Adaptation, Model, Step, StepFrozen, TrainState


class Recipe(NamedTuple):
    """A run ready to start: the step and its first state.

    Attributes:
        model: the base, its head fresh.
        adaptation: what learns.
        step: updates the state.
        frozen: what the step reads.
        state: before the first update.
        base: fingerprint of the base model without its head, which every run trains.
    """

    model: Model
    adaptation: Adaptation
    step: Step
    frozen: StepFrozen
    state: TrainState
    base: str


def load_base(configuration: Mapping[str, Any], labels: tuple[str, ...]) -> Model:
    """The base model of a run, with a tokenizer and a head for its labels.

    Raises:
        InputError: what `jaxft.load_model` refuses, or a model without a tokenizer.
    """
    from jaxft.models import load_model

    with _quiet_models():
        model = load_model(
            configuration["model"],
            task="classify",
            labels=labels,
            pooling=configuration["pooling"],
            dtype=configuration["dtype"],
            seed=configuration["seed"],
        )
    if model.tokenizer is None:
        raise InputError(f"the model {configuration['model']} comes without tokenizer files, so no text can be read")
    return model


def prepare(configuration: Mapping[str, Any], model: Model, *, steps: int) -> Recipe:
    """Builds the step of a configuration and its first state.

    Args:
        configuration: from `Options.configuration`.
        model: from `load_base`.
        steps: how many the run takes in all; the learning rate depends on it.

    Raises:
        InputError: a selector that matches nothing, more accumulated batches than there are steps, and the like.
    """
    import jax

    from jaxft.objectives import cross_entropy
    from jaxft.train import adamw, make_step, warmup_linear
    from jaxft.trees import fingerprint

    accumulate = configuration["accumulate"]
    if steps < accumulate:
        raise InputError(f"--accumulate {accumulate} needs at least that many steps, but the run has {steps}")
    schedule = warmup_linear(configuration["lr"], steps // accumulate, warmup=configuration["warmup"])
    optimizer = adamw(schedule, weight_decay=configuration["weight_decay"], accumulate=accumulate)
    adapt = adaptation(configuration["method"], configuration["settings"], model.config)
    step = make_step(model.apply, adapt, cross_entropy(), optimizer)
    ids = np.zeros((1, 8), np.int32)
    example = {"input_ids": ids, "attention_mask": ids + 1, "labels": ids[:, 0], "mask": ids[:, 0] == 0}
    frozen, state = step.init(jax.random.key(configuration["seed"]), model.params, example)
    base = fingerprint({name: leaf for name, leaf in model.params.items() if name != "head"})
    return Recipe(model, adapt, step, frozen, state, base)


@contextmanager
def _quiet_models() -> Iterator[None]:
    """Keeps back that the head is fresh: every run trains it."""
    models = logging.getLogger("jaxft.models")
    former = models.level
    models.setLevel(logging.ERROR)
    try:
        yield
    finally:
        models.setLevel(former)
