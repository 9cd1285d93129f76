"""The sources a study is built from: their hash, and a copy beside the rows."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import itertools
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax

import jaxft
from jaxft.errors import InputError
from jaxft.files import atomic_directory
from jaxft.study.loaded import loaded_source

FLAGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_disable_most_optimizations")
REPORT_ONLY = ("grid", "directory", "metric", "equalise", "writers", "stale", "arguments")
"""What ``main`` takes that no run depends on."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "quax", "numpy", "transformers")


class Revision(NamedTuple):
    """What a run was computed with.

    Attributes:
        code: sha256 of the sources of the study and of jaxft.
        script: path of the file that defines ``build``, relative to the root of the sources.
        build: name of the function there.
        files: the sources of the study, relative path -> content.
    """

    code: str
    script: str
    build: str
    files: dict[str, bytes]

    def keep(self, directory: Path) -> None:
        """Writes the sources to ``directory/code/<code>``, once."""
        place = directory / "code" / self.code[:16]
        if place.is_dir():
            return
        try:
            with atomic_directory(place) as temporary:
                for name, content in self.files.items():
                    (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                    (temporary / name).write_bytes(content)
        except InputError:
            if not place.is_dir():  # else another process was faster
                raise


def revision(build: Callable[..., Any]) -> Revision:
    """The sources of a function: its file, the files beside and below it that it imports, and jaxft's own.

    Of a file that changed after this process loaded it, it is the content that was loaded; see `loaded_source`.

    Raises:
        InputError: the function was not defined in a file, or a file is known to have changed before it was read here.
    """
    try:
        script = Path(inspect.getsourcefile(build) or "").resolve()
    except TypeError:
        script = Path()
    if not script.is_file():
        raise InputError(f"{build} was not defined in a file, so its rows could not be told from another's: save it")
    files = {}
    modules = _local(inspect.getmodule(build), _root(script))
    root = min([_root(script), *map(_start, modules.items())], key=lambda start: len(start.parts))
    for path in sorted(modules.keys() | {script}):
        files[path.relative_to(root).as_posix()] = loaded_source(path, modules.get(path, build.__module__))
    digest = hashlib.sha256(package_hash().encode())
    own = script.relative_to(root).as_posix()
    for name, content in files.items():
        counted = without_report(content) if name == own and script.suffix == ".py" else content
        digest.update(f"{name}\0{len(counted)}\0".encode() + counted)
    return Revision(digest.hexdigest(), own, build.__qualname__, files)


def without_report(content: bytes) -> bytes:
    r"""A script without what its calls of ``main`` say of the grid, the report and the directory.

    None of it changes what a run computes: the settings of a run are in its key.

    Args:
        content: Python.

    Example:
        >>> one, other = (b"ft.main(Config, build, metric='f1')\n", b"ft.main(Config, build,\n  equalise=['lr'])\n")
        >>> without_report(one) == without_report(other)
        True
        >>> without_report(b"ft.main(Config, other)\n") == without_report(one)
        False
    """
    lines = content.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    kept, done = [], 0
    for call in _calls_of_main(ast.parse(content)):
        start = starts[call.lineno - 1] + call.col_offset
        end = starts[(call.end_lineno or call.lineno) - 1] + (call.end_col_offset or 0)
        call.keywords = [keyword for keyword in call.keywords if keyword.arg not in REPORT_ONLY]
        kept += [content[done:start], ast.unparse(call).encode()]
        done = end
    return b"".join([*kept, content[done:]])


def _calls_of_main(module: ast.Module) -> Iterator[ast.Call]:
    """Those that are statements of the script itself, or below its ``if __name__ == "__main__"``."""
    for statement in module.body:
        inner = statement.body if isinstance(statement, ast.If) else [statement]
        for each in inner:
            if isinstance(each, ast.Expr) and isinstance(each.value, ast.Call):
                name = each.value.func
                if getattr(name, "attr", getattr(name, "id", None)) == "main":
                    yield each.value


@cache
def package_hash() -> str:
    """sha256 of jaxft's own sources."""
    root = Path(jaxft.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def surroundings(script: Path) -> dict[str, Any]:
    """What else a run's numbers depend on, and where it ran."""
    device = jax.devices()[0]
    return {
        "jaxft": package_hash(),
        "git": _git(script.parent, "rev-parse", "HEAD"),
        "dirty": bool(_git(script.parent, "status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version(), "jaxft": jaxft.__version__} | dict(_versions()),
        "backend": jax.default_backend(),
        "device": device.device_kind,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "flags": {
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
            **{name: jax.config.values[name] for name in FLAGS},
        },
        "host": platform.node(),
    }


def source_file(build: Callable[..., Any]) -> Path:
    """The file that defines a function."""
    return Path(inspect.getsourcefile(build) or "").resolve()


def _root(script: Path) -> Path:
    """The directory that imports start from: above the packages the script is part of."""
    root = script.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    found = [Path(entry).resolve() for entry in sys.path if entry and root.is_relative_to(Path(entry).resolve())]
    return max(found, key=lambda path: len(path.parts), default=root)


def _start(file_and_name: tuple[Path, str]) -> Path:
    """The directory that a module is imported from by its name."""
    path, name = file_and_name
    module = path.parent if path.name == "__init__.py" else path
    return module.parents[name.count(".")]


def _local(module: ModuleType | None, root: Path) -> dict[Path, str]:
    """Files below the root, and names, of the modules that a module imports anywhere in it, and so on."""
    found: dict[Path, str] = {}
    waiting = [] if module is None else [(module.__name__, getattr(module, "__file__", None))]
    while waiting:
        name, file = waiting.pop()
        path = Path(file).resolve() if file else None
        if path is None or path in found or not path.is_relative_to(root) or _installed(path, root):
            continue
        if path.suffix != ".py" or not path.is_file():
            continue
        found[path] = name
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += [(other, _file_of(other)) for other in _imported(path, package)]
    return found


def _imported(path: Path, package: str) -> Iterator[str]:
    """Full names of all that a file imports, at its top and inside functions; parts of a module count as modules."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join(part for part in (*above, node.module or "") if part)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: end + 1]) for end in range(len(parts)) if parts[0])


def _file_of(name: str) -> str | None:
    """The file of a module, imported already or not; None if there is no such module."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    return None if found is None else found.origin


def _installed(path: Path, root: Path) -> bool:
    """Whether a file is part of an environment or of jaxft, which has a hash of its own."""
    parts = path.relative_to(root).parts
    return "site-packages" in parts or path.is_relative_to(Path(jaxft.__file__).resolve().parent)


def _versions() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
