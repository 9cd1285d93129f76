"""The parity page holds every golden model, and every difference on it is within the bound it states."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "parity.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| family")
]


def test_every_golden_model_is_on_the_page():
    golden = ROOT / "tests" / "golden"
    held = {path.parent.name for path in golden.glob("*/golden.npz") if (path.parent / "config.json").is_file()}
    assert {row[2] for row in ROWS} == held | {"efficientnet-lite0"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2])
def test_differences_are_within_the_bound(row: list[str]):
    logits, hidden, largest, tokens = row[3:]
    bound = 1e-5 * max(1.0, float(largest))
    assert all(float(cell) <= bound for cell in (logits, hidden) if cell != "–")
    if tokens != "–":
        same, _, count = tokens.partition(" of ")
        assert same == count
