"""The content of source files that a process computes with, which a file may lose while the process runs."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from jaxft.errors import InputError

logger = logging.getLogger(__name__)

_KNOWN: dict[Path, tuple[Any, bytes]] = {}


def loaded_source(path: Path, name: str) -> bytes:
    """The content of a file as its module was loaded.

    It is remembered when it is first asked for; after that the file may change, and a module that is reloaded is read
    anew. A change before that is found where functions or methods of the module are not those of the file; one of
    values alone is not.

    Args:
        path: of the file.
        name: of its module; the file of one that is not imported yet is read every time.

    Raises:
        InputError: the functions of the module are others than those of the file.
    """
    module = sys.modules.get(name)
    content = path.read_bytes()
    if module is None:
        return content
    load = getattr(module, "__spec__", None) or module  # a module that is reloaded gets another spec
    if path in _KNOWN and _KNOWN[path][0] is load:
        known = _KNOWN[path][1]
        if known != content:
            logger.warning("%s has changed since this process loaded it; its runs are of the content it loaded", path)
        return known
    _check_functions(module, path, content)
    _KNOWN[path] = load, content
    return content


def _check_functions(module: ModuleType, path: Path, content: bytes) -> None:
    own = type(getattr(module, "__loader__", None)) is SourceFileLoader and path.suffix == ".py"
    if not own:  # another may load other code than it reads
        return
    written = {_plain(code) for code in _codes(compile(content, str(path), "exec", dont_inherit=True))}
    for function in _functions(module):
        if Path(function.__code__.co_filename).resolve() == path and _plain(function.__code__) not in written:
            raise InputError(
                f"{path} has changed since this process loaded it: its {function.__qualname__} is not the one that "
                "would run; start the process anew, or reload the module"
            )


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions that a module defines, and the methods of its classes."""
    values = list(vars(module).values())
    classes = [value for value in values if isinstance(value, type) and value.__module__ == module.__name__]
    for value in [*values, *(method for each in classes for method in vars(each).values())]:
        bare = inspect.unwrap(value) if callable(value) else value
        if isinstance(bare, FunctionType):
            yield bare


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _plain(code: CodeType) -> tuple[Any, ...]:
    """What a function does, wherever in a file it stands."""
    constants = tuple(_constant(value) for value in code.co_consts)
    return code.co_qualname, code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _plain(value)
    return value if isinstance(value, frozenset) else repr(value)
