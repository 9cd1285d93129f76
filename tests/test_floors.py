"""House rules that no linter knows: sizes of files and functions, words, addresses, registries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "jaxft").rglob("*.py"))
FILE_LIMIT, FUNCTION_LIMIT = 400, 60
# Written in halves so that this file does not break its own rules.
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "X" + "XX", "raise NotImplemented" + "Error", "type: " + "ignore", "no" + "qa")
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npm" + "js", "index" + "-url", "deb.debian" + ".org")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def body_length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    statements = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def committed_text() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    binary = {".png", ".npz", ".safetensors", ".parquet", ".gz", ".pth"}
    paths = [ROOT / line for line in listing.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix not in binary]


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_a_file_holds_one_idea(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= FILE_LIMIT
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    too_long = {f.name: body_length(f) for f in functions if body_length(f) >= FUNCTION_LIMIT}
    assert not too_long, f"functions of {FUNCTION_LIMIT} lines or more: {too_long}"


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_nothing_is_left_unfinished_or_silenced(path):
    source = path.read_text(encoding="utf-8")
    assert [word for word in UNFINISHED if word in source] == []


def test_no_file_names_a_package_registry():
    texts = {name_of(path): path.read_text(encoding="utf-8") for path in committed_text()}
    assert "pyproject.toml" in texts
    assert [(name, word) for name, text in texts.items() for word in REGISTRIES if word in text] == []


def test_every_imported_library_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name != "dev"]
    declared = sum(extras, project["dependencies"])
    declared = {re.match(r"[\w-]+", line).group().replace("_", "-").lower() for line in declared}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    libraries = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"jaxft"}
    names = packages_distributions()
    unmet = {m for m in libraries if not declared & {n.replace("_", "-").lower() for n in names.get(m, [m])}}
    assert "jax" in libraries
    assert unmet == set()


def test_constraints_are_names_versions_and_markers_only():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert [line for line in lines if "==" not in line or "://" in line or line.startswith("-")] == []
    assert "jax" in names
    assert "torch" not in names
