"""Who is doing which run, among processes and machines that share a directory.

A claim is a file ``claims/<key>`` that names its owner by a token never used twice. An abandoned claim is not replaced:
its successor is ``claims/<key>.<token of the abandoned claim>``, and so on, and the last of the chain holds the key.
Each step is one exclusive link, so that of several who try at once one succeeds, on network file systems too, and
nobody's claim is ever moved or overwritten.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from jaxft.errors import InputError
from jaxft.study.exclusive import draft, link_new, remedy, server_time, sweep_drafts
from jaxft.study.process import has_ended, start_time, this_machine

_BEATS = 6


@dataclass(frozen=True)
class Claim:
    """What a claim says of its owner."""

    token: str
    worker: str
    host: str
    machine: str
    pid: int
    started: int | None
    since: str
    stale: float

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


class Claims:
    """Claims on runs in ``directory/claims``, kept alive by a thread while the context lasts, and released at its end.

    A claim is abandoned when its owner is a process of this machine that has ended, or else when it was not touched
    for ``stale`` seconds by the clock of the file server. ``stale`` is the owner's: it is written in the claim.

    Args:
        directory: of the study.
        stale: seconds; claims are touched six times as often.
        worker: how `jaxft study status` calls this process; its host and number if None.

    Raises:
        InputError: the directory cannot be written to.

    Example:
        >>> import tempfile
        >>> directory = tempfile.mkdtemp()
        >>> with Claims(directory) as ours, Claims(directory) as theirs:
        ...     print(ours.take(["a", "b"]), theirs.take(["b", "c"]))
        ...     ours.release(["b"])
        ...     print(theirs.take(["a", "b"]), ours.still_held("a"), ours.still_held("b"))
        ['a', 'b'] ['c']
        ['b'] True False
    """

    def __init__(self, directory: str | os.PathLike[str], *, stale: float = 60.0, worker: str | None = None):
        if not stale > 0:
            raise InputError(f"claims are stale after a positive number of seconds, got {stale}")
        self.stale = stale
        self.worker = f"{platform.node()}:{os.getpid()}" if worker is None else worker
        self._directory = Path(directory) / "claims"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {self._directory} ({error.strerror}): {remedy(error)}") from error
        self._held: dict[str, tuple[Path, str]] = {}
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._heart.join()
        self.release(list(self._held))

    def take(self, keys: Iterable[str]) -> list[str]:
        """Claims those of the keys that nobody holds, abandoned ones included.

        Runs may have finished since their keys were listed: ask the store again before doing them.

        Returns:
            The keys claimed, in the order given.

        Raises:
            InputError: the directory cannot be written to.
        """
        claim = self._claim()
        with draft(self._directory, claim.text()) as file:
            now = file.stat().st_mtime
            return [key for key in keys if self._take(key, file, claim.token, now)]

    def release(self, keys: Iterable[str]) -> None:
        """Gives up claims; those that others took over are left to them."""
        held = {key: self._held.pop(key) for key in keys if key in self._held}
        if not held:
            return
        last = self._claim()
        with draft(self._directory, last.text()) as file:
            for key, (_, token) in held.items():
                # Succeeding ourselves first: from here nobody can take over a claim that is about to be free.
                end = self._directory / f"{key}.{token}"
                if not link_new(file, end):
                    continue
                links = chain(self._directory, key, self.stale)
                ours = bool(links) and links[-1][1].token == last.token
                for path in [path for path, _, _ in links] if ours else [end]:
                    path.unlink(missing_ok=True)

    def still_held(self, key: str) -> bool:
        """Whether a claim is still ours: a process that slept may find that another took it over."""
        held = self._held.get(key)
        if held is None:
            return False
        links = chain(self._directory, key, self.stale)
        return bool(links) and links[-1][1].token == held[1]

    def sweep(self, finished: Collection[str]) -> None:
        """Deletes what killed processes left behind: claims on finished runs, and files half written.

        Args:
            finished: keys of the runs that have a row.
        """
        sweep_drafts(self._directory, self.stale)
        for path in list(self._directory.iterdir()):
            if path.name.partition(".")[0] in finished:
                path.unlink(missing_ok=True)

    def _claim(self) -> Claim:
        pid, since = os.getpid(), datetime.now(UTC).isoformat(timespec="seconds")
        owner = (self.worker, platform.node(), this_machine(), pid, start_time(pid))
        return Claim(secrets.token_hex(8), *owner, since, self.stale)

    def _take(self, key: str, file: Path, token: str, now: float) -> bool:
        links = chain(self._directory, key, self.stale)
        path = self._directory / key
        if links:
            _, holder, touched = links[-1]
            if not abandoned(holder, touched, now):
                return False
            path = self._directory / f"{key}.{holder.token}"
        if not link_new(file, path):
            return False
        links = chain(self._directory, key, self.stale)
        if not links or links[-1][1].token != token:
            path.unlink(missing_ok=True)  # what we succeeded was released meanwhile: nothing leads to us
            return False
        self._held[key] = path, token
        return True

    def _beat(self) -> None:
        while not self._ended.wait(self.stale / _BEATS):
            for key, (path, _) in list(self._held.items()):
                with suppress(OSError):  # a server that is away for a moment; `still_held` tells if it was too long
                    if self.still_held(key):
                        os.utime(path)


def standing(directory: Path, keys: Iterable[str]) -> dict[str, tuple[Claim, bool]]:
    """The claim that holds each key, and whether it is abandoned; keys nobody holds are left out.

    Args:
        directory: of the study.
        keys: of runs.
    """
    place = directory / "claims"
    if not place.is_dir():
        return {}
    now = server_time(place)
    ends = {key: links[-1] for key in keys if (links := chain(place, key, 0.0))}
    return {key: (claim, abandoned(claim, touched, now)) for key, (_, claim, touched) in ends.items()}


def chain(place: Path, key: str, stale: float) -> list[tuple[Path, Claim, float]]:
    """The claims on a key, each the successor of the one before, with the time each was touched; the last holds it."""
    links: list[tuple[Path, Claim, float]] = []
    path = place / key
    while (read := _read(path, stale)) is not None:
        links.append((path, *read))
        path = place / f"{key}.{read[0].token}"
    return links


def abandoned(claim: Claim, touched: float, now: float) -> bool:
    """Whether a claim may be taken over; both times are of the file server's clock."""
    return has_ended(claim.machine, claim.pid, claim.started) or now - touched > claim.stale


def _read(path: Path, stale: float) -> tuple[Claim, float] | None:
    """A claim and when it was touched; opening the file makes a network file system ask the server."""
    try:
        with open(path, "rb") as file:
            status, content = os.fstat(file.fileno()), file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise
    try:
        fields: dict[str, Any] = json.loads(content)
        return Claim(**fields), status.st_mtime
    except (ValueError, TypeError):  # damaged: nobody's, and free when it is stale
        return Claim(f"damaged{status.st_ino}", "unknown", "unknown", "", 0, None, "", stale), status.st_mtime
