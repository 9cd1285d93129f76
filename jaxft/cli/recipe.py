"""A configuration as a training step, built the same when a run starts, resumes and is read back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxft.cli.method import adaptation, default_target
from jaxft.cli.tasks import TASKS
from jaxft.cli.tasks.images import image_size
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.types import Adaptation, Model, Params, Step, StepFrozen, TrainState


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

    def params(self, state: TrainState) -> Params:
        """The model's params at a state: low-rank weights kept apart, running statistics in their places."""
        bound = self.adaptation.bind(self.frozen.model, state.delta)
        return with_stats(bound, state)


def with_stats(params: Params, state: TrainState) -> Params:
    """Params with the running statistics of a state in their places."""
    from jaxft.trees import join

    return params if state.stats is None else join(state.stats, params)


def load_base(configuration: Mapping[str, Any], labels: tuple[str, ...]) -> Model:
    """The base model of a run, with a head for its labels and, to read texts, a tokenizer.

    Raises:
        InputError: what `jaxft.load_model` refuses, a model of images for a task of texts or the other way around, or
            a model without a tokenizer.
    """
    from jaxft.models import load_model
    from jaxft.models.config import LABELLED

    task, source = TASKS[configuration["task"]], configuration["model"]
    with _quiet_models():
        model = load_model(
            source,
            task=task.model_task,
            labels=labels if labels and task.model_task in LABELLED else None,
            pooling=configuration.get("pooling"),
            dtype=configuration["dtype"],
            seed=configuration["seed"],
        )
    reads = "images" if hasattr(model.config, "channels") else "texts"
    if reads != task.reads:
        raise InputError(
            f"the model {source} reads {reads}, but --task {task.name} is about {task.reads}: choose another of the two"
        )
    if task.reads == "texts" and model.tokenizer is None:
        raise InputError(f"the model {source} comes without tokenizer files, so no text can be read")
    return model


def settle(configuration: dict[str, Any], model: Model) -> None:
    """Fills in the settings whose default depends on the model.

    Raises:
        InputError: rows longer than the model's positions.
    """
    task, config = TASKS[configuration["task"]], model.config
    if "max_length" in configuration:
        from jaxft.data import check_max_length

        wanted = configuration["max_length"]
        configuration["max_length"] = (
            min(task.options["max_length"], config.max_positions) if wanted is None else wanted
        )
        check_max_length(configuration["max_length"], max_positions=config.max_positions)
    if "pooling" in configuration:
        configuration["pooling"] = config.pooling
    if "image_size" in configuration:
        configuration["image_size"] = image_size(model, configuration["image_size"])
    if configuration["settings"].get("target", ()) is None:
        configuration["settings"] = {**configuration["settings"], "target": default_target(model.params)}


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

    from jaxft.train import adamw, make_step, warmup_linear
    from jaxft.trees import fingerprint

    accumulate = configuration["accumulate"]
    if steps < accumulate:
        raise InputError(f"--accumulate {accumulate} needs at least that many steps, but the run has {steps}")
    schedule = warmup_linear(configuration["lr"], steps // accumulate, warmup=configuration["warmup"])
    optimizer = adamw(schedule, weight_decay=configuration["weight_decay"], accumulate=accumulate)
    adapt = adaptation(configuration["method"], configuration["settings"], model.params)
    task = TASKS[configuration["task"]]
    step = make_step(model.apply, adapt, task.objective(), optimizer)
    example = task.example(model, configuration, 1)
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
