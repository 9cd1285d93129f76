"""The line that shows how far a training run is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(start: int, steps: int, *, shown: bool) -> Iterator[Callable[[int, float], None]]:
    """Yields ``show(step, loss)``, which draws steps per second, loss and the time left.

    Nothing is drawn when the standard error is not a terminal.

    Args:
        start: the steps done before.
        steps: the steps in all.
        shown: False draws nothing.

    Example:
        >>> with progress_bar(0, 10, shown=False) as show:
        ...     show(1, 0.7)
    """
    if not shown:
        yield lambda step, loss: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} steps/s  loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=steps, completed=start, rate="–", loss="–")

        def show(step: int, loss: float) -> None:
            speed = bar.tasks[0].speed
            rate = "–" if speed is None else f"{speed:.2f}"
            bar.update(task, completed=step, rate=rate, loss=f"{loss:.4f}")

        yield show
