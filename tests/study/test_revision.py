"""The sources of a study: every file that may change what it computes is found."""

from __future__ import annotations

import importlib.util
import sys

import pytest

import jaxft as ft
from jaxft.study.revision import revision

SCRIPT = """
from constants import WIDTH
import packed.inner
def build(c):
    import late
    return WIDTH, late
"""


@pytest.fixture
def sources(tmp_path, monkeypatch):
    files = {
        "script.py": SCRIPT,
        "constants.py": "WIDTH = 3",
        "late.py": "import json",
        "packed/__init__.py": "",
        "packed/inner.py": "from . import sibling",
        "packed/sibling.py": "DEPTH = 2",
        "unrelated.py": "NAME = 1",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    specification = importlib.util.spec_from_file_location("script", tmp_path / "script.py")
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "script", module)
    specification.loader.exec_module(module)
    yield tmp_path, module.build
    for name in set(sys.modules) - before:
        sys.modules.pop(name)


def test_values_late_imports_and_packages_are_found(sources):
    _, build = sources
    assert set(revision(build).files) == {
        "script.py",
        "constants.py",
        "late.py",
        "packed/__init__.py",
        "packed/inner.py",
        "packed/sibling.py",
    }


@pytest.mark.parametrize("name", ["constants.py", "late.py", "packed/sibling.py", "script.py"])
def test_a_change_of_any_of_them_is_another_code(sources, name):
    place, build = sources
    before = revision(build).code
    with open(place / name, "a") as file:
        file.write("\n# changed\n")
    assert revision(build).code != before


def test_a_change_elsewhere_is_not(sources):
    place, build = sources
    before = revision(build).code
    (place / "unrelated.py").write_text("NAME = 2")
    assert revision(build).code == before


def test_a_function_without_a_file_is_refused():
    space: dict = {}
    exec("def build(c): return c", space)
    with pytest.raises(ft.InputError, match="was not defined in a file"):
        revision(space["build"])
