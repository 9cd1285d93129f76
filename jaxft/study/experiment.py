"""What one run of a study is: a model, data, and the three nouns that say how it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from jaxft.errors import InputError
from jaxft.train import make_step
from jaxft.types import Adaptation, Array, Model, Objective, Step


class Experiment(NamedTuple):
    """One run, as a function of its settings builds it.

    Attributes:
        model: what is adapted; ``load_model(…, seed=c.seed)`` draws a fresh head for each seed.
        data: has ``train``, ``test`` and perhaps ``validation``, as attributes or keys: each a `Table` of texts, which
            the model's tokenizer reads, a `Dataset`, or a dict of arrays. ``train`` may be a dict of named views of
            these, and ``data`` may have ``source`` and ``target``, the views of a domain shift.
        adaptation: what learns, and how it enters the model.
        objective: what is minimised.
        optimizer: an optax transformation; its numbers may be traced.
        steps: updates.
        seed: of everything random in the run: what starts fresh, the order of the rows, dropout.
        batch_size: rows a step.
        rows: train on so many rows, drawn by the seed; None trains on all.
        evaluate_every: steps between evaluations; None evaluates after the last step alone.
        max_length: the longest text in tokens; longer ones are cut.
        task: how predictions are measured, as `evaluate` says; None asks the model's config, else "classify".
        statistics: whose rows batch norm sees, as `make_step` says; with "separate" those of the target evaluate.
    """

    model: Model
    data: Any
    adaptation: Adaptation
    objective: Objective
    optimizer: optax.GradientTransformation
    steps: int
    seed: int | Array = 0
    batch_size: int = 32
    rows: int | None = None
    evaluate_every: int | None = None
    max_length: int = 128
    task: str | None = None
    statistics: str | None = None


MEASURED = ("classify", "regress", "lm", "seq2seq")
"""The tasks whose predictions a study sums up."""


def check_experiment(experiment: Any) -> Experiment:
    """The experiment, when its structure can be run.

    Raises:
        InputError: it is something else, or one of its whole numbers is out of range.
    """
    if not isinstance(experiment, Experiment):
        raise InputError(f"build must return a jaxft.Experiment, but returned a {type(experiment).__name__}")
    whole = {name: getattr(experiment, name) for name in ("steps", "batch_size", "rows", "evaluate_every")}
    for name, value in whole.items():
        if value is None and name in ("rows", "evaluate_every"):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(
                f"{name} of an Experiment is structure, a Python whole number from 1 up, but is {value!r}; "
                "a field that is traced (seed, or a float that varies) cannot set it"
            )
    task_of(experiment)
    return experiment


def step_of(experiment: Experiment, apply: Callable[..., Any]) -> Step:
    """The training step of a run.

    Args:
        experiment: of the run.
        apply: of its model, or what computes the same from activations that are kept.
    """
    return make_step(
        apply,
        experiment.adaptation,
        experiment.objective,
        experiment.optimizer,
        statistics=experiment.statistics,
    )


def task_of(experiment: Experiment) -> str:
    """How the predictions are measured.

    Raises:
        InputError: a study does not sum up predictions of that task.
    """
    task = experiment.task or getattr(experiment.model.config, "task", "classify")
    if task not in MEASURED:
        raise InputError(f"a study measures {', '.join(MEASURED)}, but the task is {task!r}; train it with jaxft.fit")
    return str(task)


def structure_of(experiment: Experiment) -> dict[str, Any]:
    """What shapes a run beside its arrays and rows: the plain values of an experiment, by name."""
    names = ("steps", "batch_size", "rows", "evaluate_every", "max_length", "statistics")
    found = {name: getattr(experiment, name) for name in names}
    seed = None if isinstance(experiment.seed, jax.core.Tracer) else int(experiment.seed)
    return {**found, "task": task_of(experiment), "seed": seed}
