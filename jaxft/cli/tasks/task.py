"""What a task is to the command line: a handful of functions, so that the commands know no task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from jaxft.data import Dataset, Table
    from jaxft.types import Batch, Model, Objective, Params

Configuration = Mapping[str, Any]
Labels = tuple[str, ...]


class Learned(NamedTuple):
    """A model with the params of a run.

    Attributes:
        model: its function, configuration and tokenizer.
        params: adapted ones, low-rank weights kept apart.
        configuration: of the run.
        labels: of the run.
    """

    model: Model
    params: Params
    configuration: Configuration
    labels: Labels


class Task(NamedTuple):
    """A task.

    Attributes:
        name: what ``--task`` calls it.
        model_task: what ``load_model`` calls it.
        options: its own settings with their defaults; None where the default depends on the model.
        columns: of its tables, those whose content ``run.json`` has a hash of.
        read: ``read(source, labelled)``: the rows of a file, checked as far as they can be without a model.
        labels: the names that training rows give to what is predicted, the outputs of a head where it has any; empty
            where there are none.
        check: ``check(rows, labels)``: refuses rows that are not of the kind the run learned from.
        dataset: ``dataset(model, configuration, rows, labels)``: labelled rows as numbers.
        training: ``training(model, configuration, dataset)``: the batches of each step.
        describe: a sentence about a training dataset, or nothing.
        objective: what is minimised.
        example: ``example(model, configuration, rows)``: a random batch that the objective reads.
        evaluate: ``evaluate(learned, rows, dataset)``: figures by name.
        figures: their names, and what a reader calls them.
        best: the figure that chooses the checkpoint, and whether its largest or smallest value is best.
        loss: what the loss is called.
        predict: ``predict(learned, rows)``: a line of the output for each row.
        suffixes: the kinds of file predictions are written to.
        predicted: what the largest logit stands for, in plural; empty where it stands for nothing.
        batch_size: the default.
        reads: whether the model reads texts or images.
        head: whether a fresh head is trained.
    """

    name: str
    model_task: str
    options: Mapping[str, Any]
    columns: tuple[str, ...]
    read: Callable[[str, bool], Table]
    labels: Callable[[Table], Labels]
    check: Callable[[Table, Labels], None]
    dataset: Callable[[Model, Configuration, Table, Labels], Dataset]
    training: Callable[[Model, Configuration, Any], Any]
    describe: Callable[[Dataset], str]
    objective: Callable[[], Objective]
    example: Callable[[Model, Configuration, int], Batch]
    evaluate: Callable[[Learned, Table, Any], dict[str, float]]
    figures: Sequence[tuple[str, str]]
    best: tuple[str, Literal["max", "min"]]
    loss: str
    predict: Callable[[Learned, Table], Iterable[dict[str, Any]]]
    suffixes: tuple[str, ...] = (".csv", ".jsonl")
    predicted: str = ""
    batch_size: int = 32
    reads: Literal["texts", "images"] = "texts"
    head: bool = True


def no_labels(rows: Table) -> Labels:
    """The outputs of a task that has no labels."""
    del rows
    return ()


def no_check(rows: Table, labels: Labels) -> None:
    """Every table that could be read will do."""
    del rows, labels


def nothing(dataset: Dataset) -> str:
    """There is nothing to say of a dataset."""
    del dataset
    return ""
