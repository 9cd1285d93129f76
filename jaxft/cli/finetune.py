"""``jaxft finetune``: trains a classifier and writes a run directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from jaxft.cli.options import Options
from jaxft.cli.places import check_run_directory
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.cli.recipe import Recipe
    from jaxft.cli.record import Record
    from jaxft.data import Dataset, Table, Vocabulary
    from jaxft.train import FitResult
    from jaxft.types import StepFrozen, TrainState

logger = logging.getLogger("jaxft")


def finetune(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Fine-tune a pretrained encoder to classify texts.

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
    record, recipe, splits = _prepare(configuration, tables)
    record = _open(options.out, record)
    if not options.quiet:
        _announce(options.out, record, recipe)
    result = _train(options, record, recipe, splits)

    from jaxft.cli.finish import finish

    finish(options.out, record, recipe, result, quiet=options.quiet)


class _Tables(NamedTuple):
    train: Table
    eval: Table | None
    vocabulary: Vocabulary


def _read(options: Options) -> _Tables:
    """The tables, with every label of the evaluation known from training."""
    from jaxft.data import read_table, vocabulary

    train = read_table(options.train)
    names = vocabulary(train)
    evaluation = None if options.eval is None else read_table(options.eval)
    if evaluation is not None:
        names.ids(evaluation)
        if ("text_pair" in evaluation) != ("text_pair" in train):
            raise InputError(
                f"{train.source} and {evaluation.source} must both have the column 'text_pair', or neither of them"
            )
    return _Tables(train, evaluation, names)


def _prepare(configuration: dict[str, Any], tables: _Tables) -> tuple[Record, Recipe, dict[str, Dataset]]:
    """Loads the model, makes tokens and the first state: all that can still be refused."""
    from jaxft.cli import record as records
    from jaxft.cli.inputs import tokens, training_batches
    from jaxft.cli.recipe import load_base, prepare

    given = {"train": tables.train} if tables.eval is None else {"train": tables.train, "eval": tables.eval}
    model = load_base(configuration, tables.vocabulary.names)
    splits = {name: tokens(model, configuration, table, tables.vocabulary.ids(table)) for name, table in given.items()}
    per_epoch = training_batches(splits["train"], configuration).steps_per_epoch
    steps = per_epoch * configuration["epochs"]
    configuration["evaluate_every"] = configuration["evaluate_every"] or per_epoch
    recipe = prepare(configuration, model, steps=steps)
    data = {name: records.describe_table(table, splits[name].truncated) for name, table in given.items()}
    record = records.Record(
        configuration, tables.vocabulary.names, steps, recipe.base, data, records.versions(), records.hardware()
    )
    return record, recipe, splits


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


def _announce(out: Path, record: Record, recipe: Recipe) -> None:
    from jaxft.adapt import summary
    from jaxft.cli.method import title

    counts = summary(recipe.adaptation, recipe.model.params)
    print(
        f"{title(record.configuration)}: {counts.trained:,} of {counts.parameters:,} parameters learn, "
        f"{record.steps} steps of {record.configuration['batch_size']} rows, run in {out}",
        flush=True,
    )


def _train(options: Options, record: Record, recipe: Recipe, splits: Mapping[str, Dataset]) -> FitResult:
    from jaxft.cli.inputs import ordered_batches, training_batches
    from jaxft.train import evaluate, fit

    configuration = record.configuration
    score: Callable[[StepFrozen, TrainState], dict[str, float]] | None = None
    if "eval" in splits:
        rows = ordered_batches(splits["eval"], configuration)

        def score(frozen: StepFrozen, state: TrainState) -> dict[str, float]:
            return evaluate(recipe.model.apply, recipe.adaptation.bind(frozen.model, state.delta), rows)

    return fit(
        recipe.step,
        recipe.frozen,
        recipe.state,
        training_batches(splits["train"], configuration),
        steps=record.steps,
        directory=options.out,
        evaluate=score,
        evaluate_every=configuration["evaluate_every"] if score else None,
        save_every=options.save_every or configuration["evaluate_every"],
        best="accuracy" if score else None,
        resume=options.resume,
        base=record.base,
        config=record.identity(),
        progress=not options.quiet,
        log_every=max(1, min(10, record.steps // 50)),
    )
