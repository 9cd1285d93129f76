"""``jaxft export``: a run as a model directory, or as an adapter other libraries read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro

from jaxft.cli.places import check_new_directory

if TYPE_CHECKING:
    from jaxft.cli.rebuild import Trained

_ROWS, _LENGTH = 64, 48


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
    print(
        f"merged model of step {trained.step} ({trained.chosen} checkpoint) in {out}\n"
        f"logits on {moved.rows} rows of random tokens: at most {moved.largest:.2e} from the unmerged model's, whose "
        f"largest is {moved.scale:.2f}; {moved.changed} of {moved.rows} predicted labels differ"
    )


class Moved(NamedTuple):
    """How far merging moved the logits.

    Attributes:
        largest: the largest absolute difference.
        scale: the largest absolute logit.
        changed: rows whose predicted label differs.
        rows: rows compared.
    """

    largest: float
    scale: float
    changed: int
    rows: int


def write_merged(out: Path, trained: Trained) -> Moved:
    """Writes the merged model, reads it back from disk and compares it with the unmerged one."""
    import numpy as np

    from jaxft.adapt import merge
    from jaxft.models import load_model, save_model
    from jaxft.train import predict

    recipe = trained.recipe
    save_model(recipe.model._replace(params=merge(recipe.adaptation, recipe.frozen.model, trained.state.delta)), out)
    merged = load_model(out, task="classify", dtype=trained.record.configuration["dtype"])
    config = recipe.model.config
    shape = (_ROWS, min(_LENGTH, config.max_positions))
    ids = np.random.default_rng(0).integers(0, config.vocab_size, shape, dtype=np.int32)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    before = predict(recipe.model.apply, trained.params, [batch])
    after = predict(merged.apply, merged.params, [batch])
    changed = int((before.argmax(-1) != after.argmax(-1)).sum())
    return Moved(float(np.abs(after - before).max()), float(np.abs(before).max()), changed, _ROWS)
