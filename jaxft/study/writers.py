"""Where the figures of runs may go beside the rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jaxft.errors import InputError

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class TensorBoard:
    """Event files for TensorBoard, a directory a run; needs ``pip install 'jaxft[tensorboard]'``.

    ``run_study(…, writers=[TensorBoard(directory)])`` fills them. Anything else with ``log(dict)`` may stand there,
    such as a run of an experiment tracker.

    Args:
        directory: for ``tensorboard --logdir``.

    Raises:
        InputError: the package is missing.

    Example:
        >>> import tempfile
        >>> directory = tempfile.mkdtemp()
        >>> with TensorBoard(directory) as board:
        ...     board.log({"run": "3f9c", "step": 10, "loss": 0.5})
        >>> os.listdir(directory)
        ['3f9c']
    """

    def __init__(self, directory: str | os.PathLike[str]):
        try:
            import tensorboardX
        except ImportError as error:
            raise InputError(f"TensorBoard needs tensorboardX ({error}): pip install 'jaxft[tensorboard]'") from error
        self._open = tensorboardX.SummaryWriter
        self._directory = Path(directory)
        self._run: str | None = None
        self._writer: SummaryWriter | None = None

    def log(self, figures: dict[str, Any]) -> None:
        """Writes the figures of one point: numbers as scalars, the rest as text.

        Args:
            figures: by name; "run" says whose they are, "step" when.
        """
        run = str(figures.get("run", ""))
        if self._writer is None or run != self._run:
            self.close()
            self._run, self._writer = run, self._open(str(self._directory / run))
        step = figures.get("step")
        for name, value in figures.items():
            if name in ("run", "step") or value is None:
                continue
            if isinstance(value, bool | str):
                self._writer.add_text(name, str(value), step)
            else:
                self._writer.add_scalar(name, float(value), step)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file of the last run; `log` begins another."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
