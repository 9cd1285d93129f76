"""`import jaxft` loads nothing heavy, and every name in its stub is there."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import jaxft

STUB = Path(jaxft.__file__).with_suffix(".pyi")
IMPORTS = [node for node in ast.walk(ast.parse(STUB.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
NAMES = sorted((alias.name, node.module) for node in IMPORTS for alias in node.names)
HEAVY = {
    "jax",
    "numpy",
    "flax",
    "optax",
    "orbax",
    "transformers",
    "datasets",
    "sklearn",
    "matplotlib",
    "pandas",
    "rich",
}


def modules_after(statement: str) -> set[str]:
    """Top-level modules a fresh interpreter holds after a statement."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_import_loads_no_heavy_library():
    assert modules_after("import jaxft") & HEAVY == set()


def test_the_measure_sees_a_heavy_library():
    assert "numpy" in modules_after("import numpy") & HEAVY


@pytest.mark.parametrize(("name", "module"), NAMES, ids=lambda part: str(part))
def test_a_listed_name_is_what_its_room_exports(name, module):
    found = getattr(jaxft, name)
    if module is None:
        assert found is importlib.import_module(f"jaxft.{name}")
    else:
        assert found is getattr(importlib.import_module(f"jaxft.{module}"), name)
    assert name in dir(jaxft)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = jaxft.no_such_name
