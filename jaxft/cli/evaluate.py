"""``jaxft evaluate``: the figures of a run on labelled rows."""

from __future__ import annotations

import json as js
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxft.cli.inputs import say_cut
from jaxft.cli.record import check_pairs, read_record

if TYPE_CHECKING:
    from jaxft.cli.tasks import Task


def evaluate(
    run: Path,
    eval: str,
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
    json: bool = False,
) -> None:
    """Evaluate a run on labelled rows.

    classify and images: accuracy with its 95 % interval, macro F1, Matthews correlation, cross-entropy. regress: mean
    squared error, Pearson and Spearman correlation. tag: F1, precision and recall of entities. spans: exact match and
    F1. lm and chat: perplexity. seq2seq: perplexity, and ROUGE of generated texts.

    Args:
        run: Directory of a run; its best checkpoint is evaluated, or its last if it had no --eval.
        eval: Labelled rows, as `jaxft finetune --train` reads them.
        model: Where the base model is now, if it is no longer where the run found it.
        json: Print one JSON object in place of the table.
    """
    from jaxft.cli.rebuild import load_run
    from jaxft.cli.tables import print_table
    from jaxft.train import enable_compile_cache

    record = read_record(run)
    task = record.task
    table = task.read(eval, True)
    check_pairs(record, table)
    task.check(table, record.labels)
    enable_compile_cache()
    trained = load_run(run, model)
    dataset = task.dataset(trained.model, record.configuration, table, record.labels)
    say_cut(dataset, record.configuration, table.source)
    figures = task.evaluate(trained.learned, table, dataset)
    if json:
        print(js.dumps({"rows": len(table), "step": trained.step, "checkpoint": trained.chosen, **figures}))
        return
    caption = f"{len(table)} rows, {trained.chosen} checkpoint, step {trained.step} of {record.steps}"
    print_table(("figure", "value", "95 % interval"), figure_rows(task, figures), caption=caption)


def figure_rows(task: Task, figures: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """The figures of an evaluation as rows of a table: name, value, interval where there is one."""
    rows = []
    for name, shown in task.figures:
        if name in figures:
            low, high = (figures.get(f"{name}_{end}") for end in ("low", "high"))
            interval = "" if low is None or high is None else f"{low:.4f} – {high:.4f}"
            rows.append((shown, f"{figures[name]:.4f}", interval))
    return rows
