"""The families as a whole: what the documentation says of them, and what is refused whatever the family."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from jaxft.errors import InputError
from jaxft.models import load_model
from jaxft.models.families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def rows() -> dict[str, tuple[list[str], list[str]]]:
    """Tasks and poolings of each ``model_type`` in the documentation."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4:
            for name in re.findall(r"`([\w-]+)`", cells[1]):
                found[name] = (cells[2].split(", "), cells[3].split(", "))
    return found


def test_the_documentation_lists_every_family_with_its_tasks_and_poolings():
    found = rows()
    found.pop("model_type")
    assert found == {name: (list(family.tasks), list(family.poolings)) for name, family in FAMILIES.items()}


def test_an_unknown_family_is_told_which_there_are(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gptneo"}))
    with pytest.raises(InputError, match=r"model_type is one of bert, .*, qwen3.*; got 'gptneo'"):
        load_model(tmp_path, task="lm")


@pytest.mark.parametrize("name", ["bert_gelu", "gpt2_lm", "t5_relu", "vit_classify"])
def test_a_task_of_other_families_is_refused(name: str):
    golden = Path(__file__).parents[1] / "golden" / name
    task = "seq2seq" if name in ("bert_gelu", "gpt2_lm", "vit_classify") else "lm"
    with pytest.raises(InputError, match=f'models are loaded for .*; task="{task}" is for other families'):
        load_model(golden, task=task)
