"""``run.json``: what a run was told, on what data, with which versions, on which machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxft.cli.tasks import TASKS, Task
from jaxft.errors import InputError
from jaxft.files import atomic_file

if TYPE_CHECKING:
    from jaxft.data import Table

NAME = "run.json"
_FORMAT = 1
_PACKAGES = (
    "jaxft",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "quax",
    "numpy",
    "transformers",
    "tokenizers",
)


class Record(NamedTuple):
    """The content of ``run.json``.

    Attributes:
        configuration: all that the result depends on beside the data, from `Options.configuration`.
        labels: the classes, in the order of the logits.
        steps: the updates in all.
        base: fingerprint of the base model without its head.
        data: for "train" and "eval" the source, the rows, how many were cut, the columns, and the
            sha256 of their content.
        versions: of Python and the packages that compute.
        hardware: processor, memory and devices.
    """

    configuration: dict[str, Any]
    labels: tuple[str, ...]
    steps: int
    base: str
    data: dict[str, dict[str, Any]]
    versions: dict[str, str]
    hardware: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """What a run that resumes must share: everything but where the data lies, versions and hardware.

        A classification says nothing of its task, as in the checkpoints of runs made before there were others.
        """
        data = {name: part["sha256"] for name, part in self.data.items()}
        told = {name: value for name, value in self.configuration.items() if (name, value) != ("task", "classify")}
        return {**told, "labels": list(self.labels), "steps": self.steps, "data": data}

    @property
    def task(self) -> Task:
        """Its task."""
        return TASKS[self.configuration["task"]]


def write_record(directory: Path, record: Record) -> None:
    """Writes ``run.json`` in one atomic replacement."""
    content = {"format": _FORMAT, **record._asdict()}
    with atomic_file(directory / NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(directory: Path) -> Record:
    """Reads the ``run.json`` of a directory.

    Raises:
        InputError: there is none, or it is not one that `write_record` wrote.
    """
    path = directory / NAME
    if not path.is_file():
        raise InputError(f"{directory} holds no run: expected a directory that `jaxft finetune --out` wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            raise InputError(f"{path} is of another version of jaxft: read it with the version it names")
        record = Record(**content)
        configuration = {"task": "classify", **record.configuration}
        if configuration["task"] not in TASKS:
            raise InputError(f"{path} is of a task this version of jaxft does not know: {configuration['task']!r}")
        return record._replace(configuration=configuration, labels=tuple(record.labels))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error}): restore it from a copy") from error


def describe_table(table: Table, truncated: int, read: Sequence[str]) -> dict[str, Any]:
    """Source, rows, cut rows, the columns that training reads and the sha256 of their content."""
    digest = hashlib.sha256()
    columns = [name for name in read if name in table]
    for name in columns:
        digest.update(json.dumps([name, [str(value) for value in table[name]]]).encode())
    path = Path(table.source)
    source = str(path.absolute()) if path.exists() else table.source
    return {
        "source": source,
        "rows": len(table),
        "truncated": truncated,
        "columns": columns,
        "sha256": digest.hexdigest(),
    }


def check_pairs(record: Record, table: Table) -> None:
    """Refuses single texts where a run was trained on pairs, and pairs where it was not.

    Raises:
        InputError: says which.
    """
    if "text_pair" not in record.task.columns:
        return
    trained, given = "text_pair" in record.data["train"]["columns"], "text_pair" in table
    if trained and not given:
        raise InputError(f"the run was trained on pairs of texts, but {table.source} has no column 'text_pair'")
    if given and not trained:
        raise InputError(
            f"the run was trained on single texts: rename or drop the column 'text_pair' of {table.source}"
        )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose code decides the numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name == "jaxft":
                from jaxft import __version__

                found[name] = __version__
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory, and the devices JAX sees."""
    import jax

    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def changed_versions(record: Record) -> Mapping[str, tuple[str | None, str | None]]:
    """Packages whose version is another than when the run began."""
    now = versions()
    names = sorted(record.versions.keys() | now.keys())
    pairs = {name: (record.versions.get(name), now.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
