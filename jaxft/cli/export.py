"""``jaxft export``: a run as a model directory, or as an adapter other libraries read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro

from jaxft.cli.places import check_new_directory

if TYPE_CHECKING:
    from jaxft.cli.rebuild import Trained

_ROWS, _TOKEN_ROWS, _TOKENS = 64, 4, 48


def export(
    run: Path,
    format: Literal["merged", "peft"],
    out: Path,
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
) -> None:
    """Export what a run learned.

    merged writes a Hugging Face directory (config.json, model.safetensors, tokenizer) with every update added into
    its weight, reads it back and says how far its logits lie from those of the run. peft writes an adapter in the
    layout of Hugging Face PEFT, which holds LoRA updates and the head.

    Args:
        run: Directory of a run; its best checkpoint is exported, or its last if it had no --eval.
        format: merged or peft.
        out: Directory to write, new or empty.
        model: Where the base model is now, if it is no longer where the run found it.
    """
    from jaxft.cli.rebuild import load_run
    from jaxft.train import enable_compile_cache

    check_new_directory(out)
    enable_compile_cache()
    trained = load_run(run, model)
    if format == "peft":
        from jaxft.cli.adapter import write_adapter

        write_adapter(out, trained)
        print(f"adapter of step {trained.step} ({trained.chosen} checkpoint) in {out}")
        return
    moved = write_merged(out, trained)
    task = trained.record.task
    inputs = "random tokens" if task.reads == "texts" else "random pixels"
    differ = f"; {moved.changed} of {moved.predicted} predicted {task.predicted} differ" if task.predicted else ""
    print(
        f"merged model of step {trained.step} ({trained.chosen} checkpoint) in {out}\n"
        f"logits on {moved.rows} rows of {inputs}: at most {moved.largest:.2e} from the unmerged model's, whose "
        f"largest is {moved.scale:.2f}{differ}"
    )


class Moved(NamedTuple):
    """How far merging moved the logits.

    Attributes:
        largest: the largest absolute difference.
        scale: the largest absolute logit.
        changed: predictions that differ.
        predicted: how many there are.
        rows: rows compared.
    """

    largest: float
    scale: float
    changed: int
    predicted: int
    rows: int


def write_merged(out: Path, trained: Trained) -> Moved:
    """Writes the merged model, reads it back from disk and compares it with the unmerged one."""
    import numpy as np

    from jaxft.adapt import merge
    from jaxft.cli.recipe import with_stats
    from jaxft.models import load_model, save_model
    from jaxft.train import predict

    recipe, record = trained.recipe, trained.record
    params = with_stats(merge(recipe.adaptation, recipe.frozen.model, trained.state.delta), trained.state)
    save_model(recipe.model._replace(params=params), out)
    merged = load_model(out, task=record.task.model_task, dtype=record.configuration["dtype"])
    rows = _ROWS if record.labels else _TOKEN_ROWS
    told = dict(record.configuration)
    if "max_length" in told:
        told["max_length"] = min(_TOKENS, told["max_length"])
    batch = record.task.example(recipe.model, told, rows)
    before = predict(recipe.model.apply, trained.params, [batch])
    after = predict(merged.apply, merged.params, [batch])
    changed = before.argmax(-1) != after.argmax(-1)
    largest, scale = float(np.abs(after - before).max()), float(np.abs(before).max())
    return Moved(largest, scale, int(changed.sum()), changed.size, rows)
