"""``adapter/``: what a run learned in the layout of Hugging Face PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jaxft.cli.methods import BESIDE, IN_PEFT
from jaxft.errors import InputError
from jaxft.files import atomic_directory

if TYPE_CHECKING:
    from jaxft.cli.rebuild import Trained


def write_adapter(out: Path, trained: Trained, *, replace: bool = False) -> None:
    """Writes an adapter, all or nothing.

    Args:
        out: the directory to write.
        trained: a run with one of those methods.
        replace: put it in the place of one that is there.

    Raises:
        InputError: what the method learned has no place in the layout.
    """
    from jaxft.train import save_adapter

    recipe, configuration = trained.recipe, trained.record.configuration
    if configuration["method"] not in IN_PEFT:
        other = (
            "keep the run, which predict, evaluate and generate read"
            if configuration["method"] in BESIDE
            else "export it with --format merged"
        )
        raise InputError(
            f"the PEFT layout holds what {', '.join(sorted(IN_PEFT))} learn, but the run trained with --method "
            f"{configuration['method']}: {other}"
        )
    if trained.state.stats is not None:
        raise InputError(
            "the PEFT layout has no place for running statistics, which this run updated: export it with "
            "--format merged"
        )
    with atomic_directory(out, replace=replace) as temporary:
        save_adapter(
            temporary,
            recipe.adaptation,
            recipe.frozen.model,
            trained.state.delta,
            config=recipe.model.config,
            base=configuration["model"],
        )
