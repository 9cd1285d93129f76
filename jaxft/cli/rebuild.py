"""A finished run as a model again: the base, what the run learned, and the proof that they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxft.cli.record import Record, read_record
from jaxft.cli.tasks import Learned
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.cli.recipe import Recipe
    from jaxft.types import Model, Params, TrainState


class Trained(NamedTuple):
    """What a run learned.

    Attributes:
        record: of the run.
        recipe: the base and the adaptation.
        state: of the checkpoint that was chosen.
        step: the updates made by then.
        chosen: "best" by the task's figure on the evaluation rows, or "last".
        metrics: those of the evaluation at that step; empty without one.
    """

    record: Record
    recipe: Recipe
    state: TrainState
    step: int
    chosen: str
    metrics: dict[str, float]

    @property
    def model(self) -> Model:
        """The base model, for its function, configuration and tokenizer."""
        return self.recipe.model

    @property
    def params(self) -> Params:
        """The adapted params, low-rank weights kept apart."""
        return self.recipe.params(self.state)

    @property
    def learned(self) -> Learned:
        """What its task evaluates and predicts with."""
        return Learned(self.model, self.params, self.record.configuration, self.record.labels)


def load_run(directory: Path, model: str | None = None) -> Trained:
    """Reads a run directory: the best checkpoint if it was evaluated, else the last.

    Args:
        directory: what ``jaxft finetune --out`` wrote.
        model: where the base model is now; where the run found it if None.

    Raises:
        InputError: no run, no checkpoint, a damaged one, or another base model.
    """
    from jaxft.cli.options import located
    from jaxft.cli.recipe import load_base, prepare

    record = read_record(directory)
    configuration: dict[str, Any] = dict(record.configuration)
    if model is not None:
        configuration["model"] = located(model)
    recipe = prepare(configuration, load_base(configuration, record.labels), steps=record.steps)
    if recipe.base != record.base:
        raise InputError(
            f"the run in {directory} was trained on the base model with fingerprint {record.base}, but "
            f"{configuration['model']} has {recipe.base}: name the base model it was trained on with --model"
        )
    return restore_run(directory, record, recipe)


def restore_run(directory: Path, record: Record, recipe: Recipe) -> Trained:
    """Reads the checkpoint of a run whose base is loaded already."""
    from jaxft.train import restore

    chosen: Literal["best", "last"] = "best" if "eval" in record.data else "last"
    restored = restore(directory / "checkpoints", recipe.state, which=chosen, base=record.base)
    return Trained(record, recipe, restored.state, restored.manifest.step, chosen, restored.manifest.metrics)
