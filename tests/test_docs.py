"""The documentation tells the truth: its Python runs, and the commands it shows exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.example import Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TRAIN_REAL_MODELS = ("classification", "language", "seq2seq", "spans")
COMPILE_MUCH = ("distillation", "domain_adaptation", "prompting")
SLOW = tuple(f"docs/guides/{name}.md" for name in (*TRAIN_REAL_MODELS, *COMPILE_MUCH))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def help_of(*command: str) -> str:
    program = Path(sys.executable).with_name("jaxft")
    run = subprocess.run([program, *command, "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"jaxft {' '.join(command)} --help fails:\n{run.stderr}"
    return run.stdout


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def check_command(line: str) -> None:
    """A shown command must be a target of the Makefile, a command of jaxft with its options, or a script."""
    words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    program = Path(words[0]).name
    if program == "make":
        unknown = [word for word in words[1:] if not word.startswith("-") and word not in make_targets()]
        assert not unknown, f"no such make target: {unknown}"
    elif program == "jaxft":
        shown = help_of(*words[1:2])
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert [option for option in options if option not in shown] == [], line
    elif program.startswith("python") and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), f"no such script: {words[1]}"


def check_console(example: Example) -> None:
    """Joins continued lines and checks each line that begins with the prompt."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            check_command(line[2:])


PYTHON = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()])
CONSOLE = Sybil(parsers=[CodeBlockParser("console", evaluator=check_console)])


def evaluate(sybil: Sybil, path: Path) -> None:
    for example in sybil.parse(path).examples():
        example.evaluate()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_the_commands_of_a_document_exist(path):
    evaluate(CONSOLE, path)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if name_of(path) in SLOW else ()) for path in DOCUMENTS],
    ids=name_of,
)
def test_a_document_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate(PYTHON, path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_the_files_a_document_links_to_exist(path):
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_a_broken_document_fails(tmp_path):
    document = tmp_path / "broken.md"
    document.write_text("```python\nassert 1 == 2\n```\n\n```console\n$ make no-such-target\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError):
        evaluate(PYTHON, document)
    with pytest.raises(AssertionError, match="no-such-target"):
        evaluate(CONSOLE, document)
