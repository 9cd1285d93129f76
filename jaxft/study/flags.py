"""The settings of a study as flags: every field takes one or more values, which become an axis of the grid."""

from __future__ import annotations

import dataclasses
import inspect
import io
import sys
import textwrap
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import tyro

from jaxft.errors import InputError, nearest
from jaxft.study.grid import Grid, Masked, field_types
from jaxft.study.groups import show
from jaxft.study.program import Stack


@dataclasses.dataclass(frozen=True)
class Options:
    """Where and how a study runs."""

    directory: Annotated[
        Path | None,
        tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: the script's)"),
    ] = None
    """Directory of the study, results/SCRIPT beside the script if it names none. Processes that share it share the
    runs; finished runs are not done again."""
    stack: Stack = "auto"
    """vmap: runs of one structure side by side. map: one after the other with one program. loop: each step a call, with
    the rows on the host. auto: what measured faster on this kind of device, or loop where the rows do not fit it."""
    memory_limit: Annotated[int | None, tyro.conf.arg(metavar="MIB", help_behavior_hint="(default: the device's)")] = (
        None
    )
    """Memory that runs side by side may take."""
    structure: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="FIELD ...", help_behavior_hint="(beside the script's)")
    ] = ()
    """Floats that are not traced: every value gets a program of its own."""
    equalise: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(metavar="FIELD ...", help_behavior_hint="(default: the script's)")
    ] = None
    """Settings of which every group keeps its own best, by the validation rows."""
    metric: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: the script's)")] = None
    """What the table compares; that of the task if the script names none."""
    no_wait: bool = False
    """Do not wait for the runs that other processes do."""
    list: bool = False
    """Show the runs and their state; run nothing."""


class Flags(NamedTuple):
    """What a command says.

    Attributes:
        values: the fields that were named, with their values.
        options: the rest.
    """

    values: dict[str, tuple[Any, ...]]
    options: Options


def read_flags(config: type, grid: Grid, *, description: str, arguments: Sequence[str] | None) -> Flags:
    """Reads a command; ``--help``, and what cannot be read, end the process.

    Args:
        config: the dataclass of settings.
        grid: whose values the help tells.
        description: shown by ``--help``.
        arguments: the words of the command; those of this process if None.

    Raises:
        InputError: a field has the name of an option, or a flag has no value.
    """
    kinds = field_types(config)
    own = {field.name for field in dataclasses.fields(Options)}
    if taken := sorted(own & kinds.keys()):
        raise InputError(
            f"{config.__name__}.{taken[0]} cannot be a flag, for every study has an option of that name: rename it"
        )
    comments = _comments(config)
    annotated = [
        (field.name, _annotation(kinds[field.name], _hint(field, grid), comments.get(field.name)))
        for field in dataclasses.fields(config)
    ]
    settings = dataclasses.make_dataclass(
        "Settings",
        [(name, kind, dataclasses.field(default=None)) for name, kind in annotated],
        bases=(config,),  # where tyro finds the documentation of the fields
        frozen=True,
        namespace={"__post_init__": lambda self: None, "__doc__": "One or more values each; several make an axis."},
    )
    both = dataclasses.make_dataclass("Study", [("settings", settings), ("study", Options)])
    found: Any = tyro.cli(
        both,
        prog=Path(sys.argv[0]).name,
        description=description,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    values = {name: getattr(found.settings, name) for name in kinds if getattr(found.settings, name) is not None}
    if empty := [name for name, given in values.items() if not given]:
        raise InputError(f"--{empty[0].replace('_', '-')} expects a value, or several: give at least one")
    return Flags(values, found.study)


def with_values(grid: Grid, values: dict[str, tuple[Any, ...]]) -> Grid:
    """A grid with other values of some axes.

    An axis that no part has is added to all parts. Where parts differ in an axis, as by their method, each keeps those
    of its values that are named, and a part that keeps none is left out.

    Raises:
        InputError: a value is named of such an axis that no part has.

    Example:
        >>> from jaxft.study.grid import grid
        >>> both = grid(method="lora", rank=(1, 4)) + grid(method="full")
        >>> with_values(both, {"method": ("lora",), "rank": (2,), "seed": (0, 1)}).parts
        ({'method': ('lora',), 'rank': (2,), 'seed': (0, 1)},)
    """
    parts = [dict(part) for part in grid.parts]
    for name, given in values.items():
        having = [part for part in parts if name in part] or parts
        if len({tuple(part.get(name, ())) for part in having}) < 2:
            for part in having:
                part[name] = _like(part.get(name), given)
            continue
        known = grid.axes[name]
        if unknown := [value for value in given if value not in known]:
            raise InputError(
                f"the parts of the grid differ in {name}, and none has {show(unknown[0])}; "
                f"{nearest(str(unknown[0]), map(str, known))}"
            )
        for part in having:
            kept = tuple(value for value in part[name] if value in given)
            part[name] = _like(part[name], kept)
        parts = [part for part in parts if len(part.get(name, given))]
    return Grid(tuple(parts))


def _like(axis: Any, values: tuple[Any, ...]) -> Sequence[Any]:
    return Masked(values) if isinstance(axis, Masked) else values


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; `dataclasses.MISSING` if it has none."""
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _hint(field: dataclasses.Field[Any], grid: Grid) -> str:
    if field.name in grid.axes:
        return f"(grid: {' '.join(map(show, grid.axes[field.name]))})"
    default = default_of(field)
    return "(required)" if default is dataclasses.MISSING else f"(default: {show(default)})"


def _annotation(kind: Any, hint: str, help_text: str | None) -> Any:
    described = tyro.conf.arg(metavar=f"{_word(kind)} ...", help=help_text, help_behavior_hint=hint)
    several: Any = tuple[kind, ...]
    return Annotated[several | None, described]


def _word(kind: Any) -> str:
    """What the help calls values of a type."""
    if kind is bool:
        return "True/False"
    if isinstance(kind, type):
        return "None" if kind is type(None) else kind.__name__.upper()
    return "/".join(_word(part) if isinstance(part, type) else str(part) for part in get_args(kind)) or "VALUE"


def _comments(config: type) -> dict[str, str]:
    """The comment at the end of the line of each field."""
    try:
        source = inspect.getsource(config)
    except (OSError, TypeError):
        return {}
    found: dict[str, str] = {}
    first = ""
    start_of_line = True
    for token in tokenize.generate_tokens(io.StringIO(textwrap.dedent(source)).readline):
        if token.type == tokenize.COMMENT and not start_of_line:
            found[first] = token.string.lstrip("# ")
        if token.type in (tokenize.NEWLINE, tokenize.NL):
            start_of_line = True
        elif start_of_line and token.type not in (tokenize.INDENT, tokenize.DEDENT):
            first, start_of_line = token.string, False
    return {name: comment for name, comment in found.items() if name in field_types(config)}
