"""The end of a run: what predicts from now on, the adapter, the report, the table in the terminal."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from jaxft.cli.methods import IN_PEFT
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.cli.recipe import Recipe
    from jaxft.cli.record import Record
    from jaxft.train import FitResult

logger = logging.getLogger("jaxft")


def finish(out: Path, record: Record, recipe: Recipe, result: FitResult, *, quiet: bool) -> None:
    """Writes ``adapter/`` and ``report.md`` and prints the results.

    Args:
        out: directory of the run.
        record: its ``run.json``.
        recipe: what was trained.
        result: how training ended.
        quiet: print nothing.
    """
    from jaxft.cli.adapter import write_adapter
    from jaxft.cli.rebuild import restore_run
    from jaxft.cli.report import results, write_report
    from jaxft.cli.tables import print_table

    trained = restore_run(out, record, recipe)
    if record.configuration["method"] in IN_PEFT:
        try:
            write_adapter(out / "adapter", trained, replace=True)
        except InputError as reason:  # a finished training is not thrown away because one file has no place for it
            logger.warning("no adapter is written: %s", reason)
    rows = results(out, trained)
    write_report(out, trained, result.history, rows)
    if not quiet:
        print_table(("result", "value"), rows, caption=f"{out / 'report.md'} has all settings and the learning curve")
