"""Why a training run ended before its last step."""

from __future__ import annotations

from pathlib import Path


class TrainingStopped(Exception):
    """A run ended early; what it had learned up to its last checkpoint is on disk.

    Attributes:
        step: the step at which it ended.
        saved: the step of the newest checkpoint, or None when there is none.
        directory: the run's directory, or None when nothing is written.
    """

    def __init__(self, reason: str, advice: str, *, step: int, saved: int | None, directory: Path | None):
        self.step, self.saved, self.directory = step, saved, directory
        if directory is None:
            kept = "nothing was saved because the run has no directory"
        elif saved is None:
            kept = f"there is no checkpoint in {directory} yet"
        else:
            kept = f"the last good checkpoint is of step {saved}, in {directory}"
        super().__init__(f"{reason}; {kept}; {advice}")


class NonFiniteLoss(TrainingStopped):
    """The loss or the gradient norm is no longer a finite number."""


class Interrupted(TrainingStopped):
    """The process was asked to end (SIGTERM); the step under way was finished and saved."""
