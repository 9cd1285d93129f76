"""Whether a process has ended, as far as this machine can know."""

from __future__ import annotations

import functools
import os
import platform
import uuid
from pathlib import Path

_PROC = Path("/proc")


@functools.cache
def this_machine() -> str:
    """What numbers of processes are relative to: one start of one kernel, and the container.

    A host's name does not tell: containers may share one, and numbers begin anew when a machine restarts.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return f"{platform.node()} {uuid.getnode():x}"


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since its machine did; None if it has ended, or the system does not say.

    Example:
        >>> start_time(os.getpid()) == start_time(os.getpid())
        True
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # what precedes is the command, which may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def has_ended(machine: str, pid: int, started: int | None) -> bool:
    """Whether a process of this machine has ended; False where that cannot be known.

    Args:
        machine: `this_machine` of the process.
        pid: its number.
        started: its `start_time`; another process of the same number started at another time.

    Example:
        >>> has_ended(this_machine(), os.getpid(), start_time(os.getpid()))
        False
        >>> has_ended(this_machine(), os.getpid(), 1)
        True
    """
    if machine != this_machine():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's process, which the system may hide
        return False
    return start_time(pid) != started
