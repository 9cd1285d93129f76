"""``study.json``: what a study is, and which runs are wanted of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxft.errors import InputError
from jaxft.files import read_json_object
from jaxft.study.keys import canonical, plain

logger = logging.getLogger(__name__)

NAME = "study.json"
_OWN = {"rows", "claims", "code", "report", "untold"}


@dataclass(frozen=True)
class Plan:
    """A study as its directory describes it.

    Args:
        name: of the study.
        fields: names of the fields of a run, in the order they are shown.
        axes: the values of each field that varies.
        planned: the config of each run that is wanted, by its key.
        parts: the axes of each part of the grids that were run; a run is of those parts that its config fits.
    """

    name: str
    fields: list[str]
    axes: dict[str, list[Any]] = field(default_factory=dict)
    planned: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: list[dict[str, list[Any]]] = field(default_factory=list)

    def grown(self, other: Plan) -> Plan:
        """This plan with what another adds; a config that got a new key, of newer code or data, leaves the old one.

        Runs without a field that came later are wanted no more.
        """
        axes = {name: list(values) for name, values in self.axes.items()}
        for name, values in other.axes.items():
            known = axes.setdefault(name, [])
            have = set(map(canonical, known))
            known += [value for value in values if canonical(value) not in have]
        come = set(other.fields) - set(self.fields)
        renewed = set(map(canonical, other.planned.values()))
        kept = {
            key: config
            for key, config in self.planned.items()
            if canonical(config) not in renewed and come <= config.keys()
        }
        have = set(map(canonical, self.parts))
        parts = self.parts + [part for part in other.parts if canonical(part) not in have]
        return Plan(self.name, other.fields, axes, kept | other.planned, parts)

    def means(self, axis: str, config: Mapping[str, Any]) -> bool:
        """Whether a setting is an axis of the part of the grid that a run is of, as rank is not of full fine-tuning."""
        own = [
            part
            for part in self.parts
            if all(canonical(config.get(name)) in set(map(canonical, values)) for name, values in part.items())
        ]
        return not own or any(axis in part for part in own)


def read_plan(directory: Path) -> Plan:
    """The plan of a study.

    Raises:
        InputError: the directory holds none.
    """
    if not directory.is_dir():
        raise InputError(f"there is no directory {directory}: name the directory of a study")
    path = directory / NAME
    if not path.is_file():
        raise InputError(f"{directory} holds no study: expected a {NAME} in it; name the directory of a study")
    mend = "delete it and run the study again, which writes it anew and keeps the rows"
    try:
        plan = Plan(**read_json_object(path))
    except InputError as error:
        raise InputError(f"{str(error).removesuffix(': write or fetch it again')}: {mend}") from error
    except TypeError as error:
        raise InputError(f"{path} describes no study of this version ({error}): {mend}") from error
    if not (isinstance(plan.axes, dict) and isinstance(plan.planned, dict) and isinstance(plan.fields, list)):
        raise InputError(f"{path} describes no study of this version: {mend}")
    return plan


def check_same(directory: Path, old: Plan, new: Plan) -> None:
    """Refuses a directory of another study.

    Raises:
        InputError: names the difference.
    """
    if old.name != new.name:
        raise InputError(
            f"{directory} holds the study {old.name!r}, and this one is {new.name!r}: choose another directory"
        )
    if gone := [name for name in old.fields if name not in new.fields]:
        raise InputError(
            f"the runs in {directory} have other fields than this study: its {', '.join(gone)} is not known here; "
            "choose another directory"
        )
    if come := [name for name in new.fields if name not in old.fields]:
        logger.warning(
            "the runs in %s have no %s, which came later: their rows are kept, and are of older code",
            *(directory, ", ".join(come)),
        )


def check_new(directory: Path) -> None:
    """Refuses a directory that holds anything else; what a process leaves that was killed while it made one is fine.

    Raises:
        InputError: names a file that is in the way.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"expected a directory for the study, but {directory} is a file: choose another name")
    if directory.is_dir():
        others = sorted(path.name for path in directory.iterdir() if path.name[0] != "." and path.name not in _OWN)
        if others:
            raise InputError(
                f"{directory} holds no study but other files, such as {others[0]}: choose a new or empty directory"
            )


def plan_of(
    name: str,
    fields: Sequence[str],
    axes: Mapping[str, Sequence[Any]],
    planned: Mapping[str, Mapping[str, Any]],
    parts: Sequence[Mapping[str, Sequence[Any]]] = (),
) -> Plan:
    """A plan as it is read back from JSON.

    Raises:
        InputError: a value cannot be held by JSON.
    """
    return Plan(
        name,
        list(fields),
        plain({axis: tuple(values) for axis, values in axes.items()}),
        {key: plain(config) for key, config in planned.items()},
        [plain({axis: tuple(values) for axis, values in part.items()}) for part in parts],
    )
