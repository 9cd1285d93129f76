"""``jaxft finetune``: trains a model and writes a run directory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from jaxft.cli.options import Options
from jaxft.cli.places import check_run_directory
from jaxft.cli.tasks import TASKS, Learned
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.cli.recipe import Recipe
    from jaxft.cli.record import Record
    from jaxft.data import Dataset, Table
    from jaxft.train import FitResult
    from jaxft.types import StepFrozen, TrainState

logger = logging.getLogger("jaxft")


def finetune(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Fine-tune a pretrained model for a task.

    Everything is checked before the directory of the run is created. It holds run.json (what was told, data,
    versions, hardware), metrics.jsonl, checkpoints/, adapter/ where the PEFT layout can express what learned, and
    report.md with the learning curve.
    """
    options.check()
    configuration = options.configuration()
    check_run_directory(options.out, resume=options.resume)
    tables = _read(options)

    from jaxft.train import enable_compile_cache

    enable_compile_cache()
    prepared = _prepare(configuration, tables)
    prepared = prepared._replace(record=_open(options.out, prepared.record))
    if not options.quiet:
        _announce(options.out, prepared)
    result = _train(options, prepared)

    from jaxft.cli.finish import finish

    finish(options.out, prepared.record, prepared.recipe, result, quiet=options.quiet)


class _Tables(NamedTuple):
    parts: dict[str, Table]
    labels: tuple[str, ...]


def _read(options: Options) -> _Tables:
    """The tables, with every label of the evaluation known from training."""
    task = TASKS[options.task]
    train = task.read(options.train, True)
    labels = task.labels(train)
    if options.eval is None:
        return _Tables({"train": train}, labels)
    evaluation = task.read(options.eval, True)
    task.check(evaluation, labels)
    if "text_pair" in task.columns and ("text_pair" in evaluation) != ("text_pair" in train):
        raise InputError(
            f"{train.source} and {evaluation.source} must both have the column 'text_pair', or neither of them"
        )
    return _Tables({"train": train, "eval": evaluation}, labels)


class _Prepared(NamedTuple):
    record: Record
    recipe: Recipe
    tables: dict[str, Table]
    splits: dict[str, Dataset]
    batches: Any


def _prepare(configuration: dict[str, Any], tables: _Tables) -> _Prepared:
    """Loads the model, makes tokens or pixels and the first state: all that can still be refused."""
    from jaxft.cli import record as records
    from jaxft.cli.recipe import load_base, prepare, settle

    task = TASKS[configuration["task"]]
    model = load_base(configuration, tables.labels)
    settle(configuration, model)
    splits = {name: task.dataset(model, configuration, rows, tables.labels) for name, rows in tables.parts.items()}
    batches = task.training(model, configuration, splits["train"])
    steps = batches.steps_per_epoch * configuration["epochs"]
    configuration["evaluate_every"] = configuration["evaluate_every"] or batches.steps_per_epoch
    recipe = prepare(configuration, model, steps=steps)
    data = {
        name: records.describe_table(rows, splits[name].truncated, task.columns) for name, rows in tables.parts.items()
    }
    record = records.Record(
        configuration, tables.labels, steps, recipe.base, data, records.versions(), records.hardware()
    )
    return _Prepared(record, recipe, tables.parts, splits, batches)


def _open(out: Path, record: Record) -> Record:
    """Writes ``run.json`` of a new run, or checks that the run in the directory is this one; returns what it holds."""
    from jaxft.cli.record import NAME, changed_versions, read_record, write_record
    from jaxft.train.manifest import differences

    if not (out / NAME).is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_record(out, record)
        return record
    stored = read_record(out)
    if stored.base != record.base:
        raise InputError(
            f"the run in {out} belongs to the base model with fingerprint {stored.base}, but "
            f"{record.configuration['model']} now has {record.base}: name the base model it was started on"
        )
    changed = differences(stored.identity(), record.identity())
    if changed:
        raise InputError(
            f"the run in {out} was started with another configuration ("
            + "; ".join(text.replace("in the checkpoint", "in the run") for text in changed)
            + "): resume with the same one, or choose a new directory"
        )
    for name, (then, now) in changed_versions(stored).items():
        logger.warning("the run began with %s %s and resumes with %s: bits may differ", name, then, now)
    return stored


def _announce(out: Path, prepared: _Prepared) -> None:
    from jaxft.adapt import summary
    from jaxft.cli.method import title

    record, recipe = prepared.record, prepared.recipe
    said = record.task.describe(prepared.splits["train"])
    if said:
        print(said)
    counts = summary(recipe.adaptation, recipe.model.params)
    print(
        f"{title(record.configuration)}: {counts.trained:,} of {counts.parameters:,} parameters learn, "
        f"{record.steps} steps of {record.configuration['batch_size']} rows, run in {out}",
        flush=True,
    )


def _train(options: Options, prepared: _Prepared) -> FitResult:
    from jaxft.train import fit

    record, recipe = prepared.record, prepared.recipe
    configuration, task = record.configuration, record.task
    best, mode = task.best
    score: Callable[[StepFrozen, TrainState], dict[str, float]] | None = None
    if "eval" in prepared.splits:

        def score(frozen: StepFrozen, state: TrainState) -> dict[str, float]:
            learned = Learned(recipe.model, recipe._replace(frozen=frozen).params(state), configuration, record.labels)
            return task.evaluate(learned, prepared.tables["eval"], prepared.splits["eval"])

    return fit(
        recipe.step,
        recipe.frozen,
        recipe.state,
        prepared.batches,
        steps=record.steps,
        directory=options.out,
        evaluate=score,
        evaluate_every=configuration["evaluate_every"] if score else None,
        save_every=options.save_every or configuration["evaluate_every"],
        best=best if score else None,
        best_mode=mode,
        resume=options.resume,
        base=record.base,
        config=record.identity(),
        progress=not options.quiet,
        log_every=max(1, min(10, record.steps // 50)),
    )
