"""The tasks of the command line, one a file."""

from __future__ import annotations

from jaxft.cli.tasks.chat import CHAT
from jaxft.cli.tasks.classify import CLASSIFY
from jaxft.cli.tasks.images import IMAGES
from jaxft.cli.tasks.lm import LM
from jaxft.cli.tasks.regress import REGRESS
from jaxft.cli.tasks.seq2seq import SEQ2SEQ
from jaxft.cli.tasks.spans import SPANS
from jaxft.cli.tasks.tag import TAG
from jaxft.cli.tasks.task import Configuration, Learned, Task

TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFY, REGRESS, TAG, SPANS, LM, CHAT, SEQ2SEQ, IMAGES)}
"""Every task by the name ``--task`` gives it."""

__all__ = ["TASKS", "Configuration", "Learned", "Task"]
