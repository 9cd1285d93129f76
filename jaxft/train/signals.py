"""Leaving a training run at a step's end when the process is asked to terminate."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def termination() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM sets, in place of ending the process; the former handler returns afterwards.

    Python delivers signals to the main thread alone, so in any other thread the event stays unset.

    Example:
        >>> import os
        >>> with termination() as asked:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     asked.wait(timeout=5)
        True
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    former = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, former if former is not None else signal.SIG_DFL)
