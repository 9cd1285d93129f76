"""The command line: ``jaxft finetune``, ``predict``, ``evaluate``, ``generate``, ``export`` and ``assets``."""

from jaxft.cli.app import main

__all__ = ["main"]
