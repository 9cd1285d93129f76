"""Does one recorded run again: ``python -m jaxft.study.rerun REQUEST ANSWER``, in a process of its own.

A process of its own, because the kept sources are imported under the names they had, which may be taken in another.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

from jaxft.errors import InputError
from jaxft.study.experiment import Experiment
from jaxft.study.grid import field_types
from jaxft.study.program import make_program
from jaxft.study.revision import revision, surroundings
from jaxft.study.row import make_row
from jaxft.study.trace import describe
from jaxft.train import enable_compile_cache


def rerun(row: Mapping[str, Any], script: Path, root: Path) -> dict[str, Any]:
    """The row of a recorded run, computed again by a program of the same shape.

    Args:
        row: of the run.
        script: the file that defines its ``build``.
        root: the directory that its imports start from.

    Raises:
        InputError: the file does not define what the row names, or cannot be imported.
    """
    module = _imported(script, root)
    build: Callable[[Any], Experiment] = _named(module, row["provenance"]["build"], script)
    config = _config(_class(module, row["provenance"]["config"], script), row["config"], script)
    program = row["program"]
    names, masked = program["traced"], program["masked"]
    ranks = {name: getattr(config, name) for name in masked}
    facts = describe(build, config, names, ranks)
    shape: dict[str, Any] = {"lanes": program["lanes"], "stack": program["stack"], "memory_limit": sys.maxsize}
    compiled = make_program(build, config, names, masked, facts, **shape)
    place = program["lane"] if compiled.stack == "vmap" else 0
    values = {name: getattr(config, name) for name in names}
    outcomes, seconds = compiled.run([values] * (place + 1))
    again = make_row(row["key"], row["config"], outcomes[place], facts, compiled, seconds, place)
    again["program"]["masked"] = masked
    again["provenance"] |= {"code": revision(build).code, **surroundings(script)}
    return again


def _imported(script: Path, root: Path) -> ModuleType:
    sys.path[:0] = [str(script.parent), *([str(root)] if root != script.parent else [])]
    specification = importlib.util.spec_from_file_location(script.stem, script)
    if specification is None or specification.loader is None:
        raise InputError(f"{script} is no Python file: name the script of the study")
    module = importlib.util.module_from_spec(specification)
    sys.modules[script.stem] = module
    try:
        specification.loader.exec_module(module)
    except ImportError as error:
        raise InputError(
            f"{script} cannot be imported ({error}): install what it needs, or name another by --script"
        ) from error
    return module


def _named(module: ModuleType, name: str, script: Path) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise InputError(f"{script} defines no {name}, which the run was built with: name another file by --script")
    return found


def _class(module: ModuleType, name: str, script: Path) -> type:
    """The class of settings, in the script or in the module that the row names."""
    place, _, own = name.rpartition(":")
    found: type = _named(importlib.import_module(place) if place else module, own, script)
    return found


def _config(kind: type, values: Mapping[str, Any], script: Path) -> Any:
    hints = field_types(kind)
    if hints.keys() != values.keys():
        differing = sorted(hints.keys() ^ values.keys())
        raise InputError(
            f"the settings of {script} and of the run differ in {', '.join(differing)}: name the file of the run's "
            "time by --script"
        )
    fields = {n: tuple(v) if isinstance(v, list) and get_origin(hints[n]) is not list else v for n, v in values.items()}
    return kind(**fields)


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    enable_compile_cache()
    try:
        return {"row": rerun(request["row"], Path(request["script"]), Path(request["root"]))}
    except InputError as error:
        return {"wrong": str(error)}


if __name__ == "__main__":
    asked, answer = map(Path, sys.argv[1:])
    answer.write_text(json.dumps(_answer(json.loads(asked.read_text(encoding="utf-8")))), encoding="utf-8")
