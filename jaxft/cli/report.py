"""``report.md``: what a run was, what came out, and its learning curve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.cli.curve import write_curve
from jaxft.cli.evaluate import figure_rows
from jaxft.cli.method import title
from jaxft.files import atomic_file

if TYPE_CHECKING:
    from jaxft.cli.rebuild import Trained
    from jaxft.cli.record import Record

Rows = Sequence[tuple[str, str]]


def results(out: Path, trained: Trained) -> Rows:
    """What came out, as names and values."""
    from jaxft.adapt import summary

    record, recipe = trained.record, trained.recipe
    counts = summary(recipe.adaptation, recipe.model.params)
    share = counts.trained / counts.parameters
    rows = [("method", title(record.configuration))]
    if trained.metrics:
        for name, value, interval in figure_rows(record.task, trained.metrics):
            rows.append((name, f"{value} (95 % interval {interval})" if interval else value))
    rows += [
        ("checkpoint that predicts", f"step {trained.step} of {record.steps} ({trained.chosen})"),
        ("trained parameters", f"{counts.trained:,} of {counts.parameters:,} ({share:.2%})"),
        ("rows", ", ".join(f"{name} {part['rows']:,}" for name, part in record.data.items())),
    ]
    if "max_length" in record.configuration:
        cut = ", ".join(f"{name} {part['truncated']:,}" for name, part in record.data.items())
        rows.append(("rows cut to --max-length", cut))
    return [*rows, ("training time", f"{_minutes(out):.1f} min")]


def write_report(out: Path, trained: Trained, history: Sequence[dict[str, Any]], rows: Rows) -> None:
    """Writes ``curve.png`` and ``report.md``.

    Args:
        out: directory of the run.
        trained: the checkpoint that predicts.
        history: the lines of ``metrics.jsonl``.
        rows: from `results`.
    """
    record = trained.record
    epochs = record.configuration["epochs"]
    write_curve(out / "curve.png", history, task=record.task, per_epoch=record.steps // epochs, chosen=trained.step)
    settings = {**record.configuration, **record.configuration["settings"]}
    del settings["settings"]
    learned = (
        "`adapter/` holds what learned, in the layout of Hugging Face PEFT."
        if (out / "adapter").is_dir()
        else f"What learned is in `checkpoints/step_{trained.step:08d}`; the PEFT layout has no place for it, so "
        "there is no `adapter/`. `jaxft export --format merged` writes it as a model directory."
    )
    parts = [
        f"# {title(record.configuration)} on {Path(record.data['train']['source']).name}",
        _table(("result", "value"), rows),
        f"![Training loss and {_measured(record)} over epochs](curve.png)",
        learned,
        "## Settings",
        _table(("setting", "value"), [(name, json.dumps(value)) for name, value in settings.items()]),
        "## Data",
        _table(
            ("rows of", "source", "rows", "sha256"),
            [(name, part["source"], f"{part['rows']:,}", part["sha256"][:16]) for name, part in record.data.items()],
        ),
        (f"Labels: {', '.join(record.labels)}. " if record.labels else "")
        + f"Base model without its head: sha256 `{record.base[:16]}`.",
        "## Machine and versions",
        _table(("part", "value"), [(name, _plain(value)) for name, value in record.hardware.items()]),
        _table(("package", "version"), list(record.versions.items())),
    ]
    with atomic_file(out / "report.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _measured(record: Record) -> str:
    return f"evaluation {dict(record.task.figures)[record.task.best[0]]}"


def _minutes(out: Path) -> float:
    lines = (out / "timings.jsonl").read_text(encoding="utf-8").splitlines()
    return sum(float(json.loads(line)["seconds"]) for line in lines) / 60


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
