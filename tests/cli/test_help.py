"""`--help` answers at once: it loads nothing that computes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COMMANDS = [
    (),
    ("finetune",),
    ("predict",),
    ("evaluate",),
    ("generate",),
    ("export",),
    ("assets",),
    ("assets", "fetch"),
    ("study",),
    ("study", "status"),
]
HEAVY = {
    "jax",
    "flax",
    "optax",
    "orbax",
    "transformers",
    "datasets",
    "sklearn",
    "matplotlib",
    "numpy",
    "pandas",
    "torch",
}
PROGRAM = """
import json, sys
from jaxft.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_loads_nothing_heavy(command):
    process = [sys.executable, "-c", PROGRAM, *command, "--help"]
    run = subprocess.run(process, capture_output=True, text=True, check=True)
    *text, last = run.stdout.splitlines()
    code, modules = json.loads(last)
    assert code == 0
    assert text[0].startswith("usage: ")
    assert HEAVY & set(modules) == set()


def test_no_command_shows_the_help(jaxft):
    ended = jaxft()
    assert ended.code == 0
    assert "finetune" in ended.out


def test_the_options_are_explained(jaxft):
    text = jaxft("finetune", "--help").out
    for option in ("--model", "--train", "--eval", "--method", "--layers", "--rank", "--alpha", "--lr", "--resume"):
        assert option in text
    assert "1e-3 lora" in " ".join(text.split())
    assert "{None}" not in text
