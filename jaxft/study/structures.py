"""Which runs share a program, and what is known and compiled of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxft.study.grid import field_types, members
from jaxft.study.keys import canonical, plain
from jaxft.study.memory import device_bytes
from jaxft.study.program import Program
from jaxft.study.trace import Build, Facts, describe


class Group(NamedTuple):
    """Runs of one structure.

    Attributes:
        configs: of the runs.
        names: the settings that are traced.
        masked: name -> the largest rank, of the axes made by `masked`.
    """

    configs: list[Any]
    names: tuple[str, ...]
    masked: dict[str, int]

    @property
    def structure(self) -> Hashable:
        """All that the program is compiled for: groups of one build that agree in it can share one."""
        fixed = {name: value for name, value in settings(self.configs[0]).items() if name not in self.names}
        return canonical(fixed), self.names, tuple(sorted(self.masked.items()))


@dataclass(frozen=True)
class Programs:
    """What is known and compiled of the structures of one build, for callers that come back with more runs.

    Args:
        facts: of a structure and its masked ranks.
        compiled: of a structure.
    """

    facts: dict[tuple[Hashable, tuple[int, ...]], Facts] = field(default_factory=dict)
    compiled: dict[Hashable, Program] = field(default_factory=dict)

    def known(self, build: Build, group: Group, config: Any) -> Facts:
        """What is known of a run of a group."""
        ranks = {name: getattr(config, name) for name in group.masked}
        place = group.structure, tuple(ranks.values())
        if place not in self.facts:
            same = next((f.prepared for (of, _), f in self.facts.items() if of == group.structure), None)
            self.facts[place] = self._kept(describe(build, config, group.names, ranks, same))
        return self.facts[place]

    def _kept(self, facts: Facts) -> Facts:
        """The facts with their rows, which structures with equal ones share, or without what would be too much."""
        rows = {known.data: known for known in self.facts.values() if known.prepared is not None}
        if facts.data in rows:
            return facts._replace(prepared=rows[facts.data].prepared)
        fits = sum(known.nbytes for known in rows.values()) + facts.nbytes <= device_bytes() // 4
        return facts if fits else facts._replace(prepared=None)


def groups(
    configs: Sequence[Any],
    masked: Mapping[str, int],
    structure: Collection[str] = (),
    varying: Collection[str] = (),
) -> list[Group]:
    """Puts runs together that one program serves: those that differ in floats, the seed and masked ranks alone.

    Args:
        configs: of all runs; floats that are the same in all stay plain numbers.
        masked: name -> the largest rank of the axes made by `masked`; ranks of other parts may be larger.
        structure: floats that are to be plain numbers, with a program for each value.
        varying: settings that vary, though perhaps not among these runs.
    """
    kinds = field_types(type(configs[0]))
    varied = [name for name in kinds if name in varying or len({getattr(config, name) for config in configs}) > 1]
    names = {name for name in varied if float in members(kinds[name]) or name in masked} | ({"seed"} & kinds.keys())
    may_be = sorted(names - set(structure))
    found: dict[Any, list[Any]] = {}
    for config in configs:
        traced = tuple(name for name in may_be if _is_traced(getattr(config, name), kinds[name], name in masked))
        fixed = tuple(getattr(config, name) for name in kinds if name not in traced)
        found.setdefault((traced, fixed), []).append(config)
    ranks = [name for name in may_be if name in masked]
    largest = {name: max(masked[name], *(getattr(config, name) for config in configs)) for name in ranks}
    return [Group(held, traced, largest) for (traced, _), held in found.items()]


def _is_traced(value: Any, kind: Any, is_masked: bool) -> bool:
    """Whether a value of a field that varies is a number of the program; None and a choice of texts are structure."""
    return is_masked or type(value) is float or (type(value) is int and (kind is int or float in members(kind)))


def settings(config: Any) -> dict[str, Any]:
    """The settings of a run as its row holds them: floats are floats."""
    kinds = field_types(type(config))
    values = dataclasses.asdict(config)
    return plain({n: float(v) if float in members(kinds[n]) and type(v) is int else v for n, v in values.items()})


def in_words(group: Group) -> str:
    """What the runs of a group have in common, without what varies in all of them."""
    fixed = {name: value for name, value in settings(group.configs[0]).items() if name not in group.names}
    return ", ".join(f"{name}={value}" for name, value in fixed.items()) or "one structure"
