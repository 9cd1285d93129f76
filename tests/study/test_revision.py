"""The sources of a study: every file that may change what it computes is found."""

from __future__ import annotations

import importlib
import logging
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


MODULES = ("script", "constants", "late", "packed", "packed.inner", "packed.sibling")


def imported():
    """The function, as a process that starts now finds it."""
    for name in MODULES:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("script").build


def forget(before):
    for name in set(sys.modules) - before:
        sys.modules.pop(name)


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
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path, imported()
    forget(before)


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
    assert revision(imported()).code != before


@pytest.mark.parametrize("name", ["constants.py", "packed/sibling.py", "script.py"])
def test_a_file_that_changes_after_it_was_loaded_leaves_the_code_that_runs(sources, name, caplog):
    place, build = sources
    before = revision(build)
    (place / name).write_text((place / name).read_text() + "\nWIDTH = DEPTH = 7\n")
    with caplog.at_level(logging.WARNING):
        assert revision(build) == before
    assert f"{name} has changed since this process loaded it" in caplog.text


def test_a_function_that_changed_before_it_was_asked_for_is_refused(sources):
    place, build = sources
    (place / "script.py").write_text(SCRIPT.replace("return WIDTH, late", "return WIDTH + 1, late"))
    with pytest.raises(ft.InputError, match="its build is not the one that would run; start the process anew"):
        revision(build)
    assert revision(imported()).files["script.py"] == (place / "script.py").read_bytes()


def test_a_change_elsewhere_is_not(sources):
    place, build = sources
    before = revision(build).code
    (place / "unrelated.py").write_text("NAME = 2")
    assert revision(imported()).code == before


def test_a_function_without_a_file_is_refused():
    space: dict = {}
    exec("def build(c): return c", space)
    with pytest.raises(ft.InputError, match="was not defined in a file"):
        revision(space["build"])


def test_what_the_report_shows_is_no_other_code(sources):
    place, _ = sources
    codes = []
    for call in (
        "main(build)",
        "ft.main(build,\n    metric='f1', equalise=('lr',))",
        "ft.main(build, structure=('lr',))",
    ):
        (place / "script.py").write_text(f'{SCRIPT}\nif __name__ == "__main__":\n    {call}\n')
        codes.append(revision(imported()).code)
    assert len(set(codes)) == 3
    (place / "script.py").write_text(f'{SCRIPT}\nif __name__ == "__main__":\n    ft.main(build, metric="loss")\n')
    assert revision(imported()).code == codes[1]
