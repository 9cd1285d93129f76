"""How far every family is from Hugging Face transformers: make parity, or python -m bench.parity [--no-write].

Every golden directory is loaded and run on the inputs that transformers ran on. The table is printed and written to
docs/parity.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxft as ft
from bench.run import ROOT, machine
from jaxft.models.family import saved_task

GOLDEN = ROOT / "tests" / "golden"
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids", "decoder_attention_mask", "pixels")
HEADINGS = ("family", "class", "case", "logits", "hidden states", "largest value", "greedy tokens")
INTRODUCTION = """# Parity

Every family equals its reference. The golden files in `tests/golden` hold small random models, odd in every size, with
what Hugging Face transformers 5.23 on PyTorch 2.13 computed from them (`tests/golden/make_families.py`).
`make parity` loads each directory, runs it on the same inputs in float32 and writes this table: the largest
absolute difference of the logits and of all hidden states at tokens that are no padding, the largest value among them,
and how many of the greedily generated tokens are the same. EfficientNet-Lite0 is compared on its published weights with
the reference package `efficientnet_lite_pytorch` 0.1.0.

The bound is 1e-5 of the largest value, or 1e-5 where all values are below one: float32 keeps seven digits, so a value
of seventy is itself known to no more than 1e-5.
"""


class Parity(NamedTuple):
    """Largest differences of one case, the largest value compared, and generated tokens that agree of how many."""

    family: str
    name: str
    case: str
    logits: float | None
    hidden: float | None
    largest: float
    same: int
    generated: int

    @property
    def cells(self) -> tuple[str, ...]:
        tokens = f"{self.same} of {self.generated}" if self.generated else "–"
        return (
            self.family,
            self.name,
            self.case,
            _small(self.logits),
            _small(self.hidden),
            f"{self.largest:.3g}",
            tokens,
        )


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def cases() -> list[str]:
    """The golden directories of whole models."""
    return sorted(path.parent.name for path in GOLDEN.glob("*/golden.npz") if (path.parent / "config.json").is_file())


def compare(case: str) -> Parity:
    """Runs a golden directory and compares what its file holds."""
    raw = json.loads((GOLDEN / case / "config.json").read_text(encoding="utf-8"))
    model = ft.load_model(GOLDEN / case, task=saved_task(raw) or "features")
    with np.load(GOLDEN / case / "golden.npz") as stored:
        expected = dict(stored)
    batch = {name: expected[name] for name in INPUTS if name in expected}
    outputs = jax.jit(model.apply)(model.params, batch)
    mask = expected.get("decoder_attention_mask", expected.get("attention_mask"))
    logits = _difference(outputs.logits, expected["logits"], mask) if "logits" in expected else None
    states = {name: array for name, array in expected.items() if name.startswith("hidden_")}
    found = {f"hidden_{index}": state for index, state in enumerate(outputs.hidden_states)}
    hidden = max((_difference(found[name], array, mask) for name, array in states.items()), default=None)
    largest = max(float(np.abs(array).max()) for array in (*states.values(), expected.get("logits", np.zeros(1))))
    same, generated = _tokens(model, batch, expected) if "generated" in expected else (0, 0)
    return Parity(raw["model_type"], raw["architectures"][0], case, logits, hidden, largest, same, generated)


def _difference(found: Any, expected: np.ndarray, mask: np.ndarray | None) -> float:
    difference = np.abs(np.asarray(found, np.float32) - expected)
    per_token = mask is not None and difference.ndim == 3 and difference.shape[:2] == mask.shape
    return float(difference[mask > 0].max() if per_token and mask is not None else difference.max())


def _tokens(model: ft.Model, batch: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> tuple[int, int]:
    """Tokens up to the first stop token of each row that are those of transformers."""
    wanted = expected["generated"]
    if "prompt_ids" in expected:
        batch = {"input_ids": expected["prompt_ids"], "attention_mask": expected["prompt_mask"]}
    found = ft.generate(model, batch, max_new_tokens=wanted.shape[1])
    counted = np.arange(wanted.shape[1]) < found.lengths[:, None]
    return int((found.tokens == wanted)[counted].sum()), int(counted.sum())


def efficientnet() -> Parity:
    """EfficientNet-Lite0 on its published weights."""
    model = ft.load_model("efficientnet-lite0", task="classify")
    with np.load(GOLDEN / "efficientnet_lite" / "golden.npz") as stored:
        expected = dict(stored)
    pairs = [
        (model.apply(model.params, {"pixels": expected[f"pixels_{index}"]}), expected[f"logits_{index}"])
        for index in range(2)
    ]
    logits = max(_difference(outputs.logits, wanted, None) for outputs, wanted in pairs)
    largest = max(float(np.abs(wanted).max()) for _, wanted in pairs)
    return Parity(model.config.family, "EfficientNet (reference)", "efficientnet-lite0", logits, None, largest, 0, 0)


def table() -> list[Parity]:
    """Every case, by family."""
    return sorted([*map(compare, cases()), efficientnet()])


def main() -> None:
    rows = table()
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|---" + "|--:" * (len(HEADINGS) - 3) + "|"]
    lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
    print("\n".join(lines))
    if "--no-write" not in sys.argv[1:]:
        page = Path(ROOT, "docs", "parity.md")
        page.write_text(INTRODUCTION + "\n" + "\n".join(lines) + "\n\n" + machine() + "\n", encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
