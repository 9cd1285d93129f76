"""``jaxft export``: a run as a model directory, or as an adapter other libraries read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro

from jaxft.cli.methods import BESIDE, IN_PEFT
from jaxft.cli.places import check_new_directory
from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.cli.rebuild import Trained
    from jaxft.types import Batch, Params

_ROWS, _TOKEN_ROWS, _TOKENS = 64, 4, 48


def export(
    run: Path,
    format: Literal["merged", "peft"],
    out: Path,
    model: Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="(optional)")] = None,
) -> None:
    """Export what a run learned.

    merged says how far every weight and the logits would move, in float32, bfloat16 and int8, then writes a Hugging
    Face directory (config.json, model.safetensors, tokenizer) with every update added into its weight and reads it
    back. peft writes an adapter in the layout of Hugging Face PEFT: low-rank updates, IA3 factors, prompts and
    prefixes, with the head.

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
    method = trained.record.configuration["method"]
    if method in BESIDE:
        other = "export it with --format peft" if method in IN_PEFT else "keep the run, which the other commands read"
        raise InputError(
            f"what --method {method} learned stands beside the weights of the base and cannot be merged into them: "
            f"{other}"
        )
    params, batch = merged(trained)
    _explain(trained, batch)
    moved = write_merged(out, trained, params, batch)
    print(
        f"merged model of step {trained.step} ({trained.chosen} checkpoint) in {out}\n"
        f"read back, its logits on {moved.rows} rows are at most {moved.largest:.2e} from the unmerged model's"
    )


def merged(trained: Trained) -> tuple[Params, Batch]:
    """The merged params of a run, and a random batch to compare models on."""
    from jaxft.adapt import merge
    from jaxft.cli.recipe import with_stats

    recipe, record = trained.recipe, trained.record
    params = with_stats(merge(recipe.adaptation, recipe.frozen.model, trained.state.delta), trained.state)
    told = dict(record.configuration)
    if "max_length" in told:
        told["max_length"] = min(_TOKENS, told["max_length"])
    return params, record.task.example(recipe.model, told, _ROWS if record.labels else _TOKEN_ROWS)


def _explain(trained: Trained, batch: Batch) -> None:
    """Prints how far every weight and the logits move, before anything is written."""
    from jaxft.cli.tables import print_table
    from jaxft.train import merge_report

    recipe, task = trained.recipe, trained.record.task
    found = merge_report(recipe.model.apply, recipe.model.params, trained.params, [batch])
    print_table(("weight", "‖ΔW‖ / ‖W‖"), [(path, "new" if r == math.inf else f"{r:.4f}") for path, r in found.weights])
    inputs = "random tokens" if task.reads == "texts" else "random pixels"
    rows, scale = len(next(iter(batch.values()))), found.logits[0].scale
    predicted = task.predicted or "tokens"
    print_table(
        ("merged and kept in", "logits move by at most", f"{predicted} that differ"),
        [(one.stored, f"{one.largest:.2e}", f"{one.changed} of {one.predicted}") for one in found.logits],
        caption=f"on {rows} rows of {inputs}; the largest logit is {scale:.2f}",
    )


class Moved(NamedTuple):
    """How far the logits of the files are from those of the run.

    Attributes:
        largest: the largest absolute difference.
        rows: rows compared.
    """

    largest: float
    rows: int


def write_merged(out: Path, trained: Trained, params: Params, batch: Batch) -> Moved:
    """Writes the merged model, reads it back from disk and compares it with the unmerged one.

    Args:
        out: the directory to write.
        trained: a run.
        params: merged, from `merged`.
        batch: to compare them on.
    """
    import numpy as np

    from jaxft.models import load_model, save_model
    from jaxft.train import predict

    recipe, record = trained.recipe, trained.record
    save_model(recipe.model._replace(params=params), out)
    read = load_model(out, task=record.task.model_task, dtype=record.configuration["dtype"])
    before = predict(recipe.model.apply, trained.params, [batch])
    after = predict(read.apply, read.params, [batch])
    return Moved(float(np.abs(after - before).max()), len(before))
