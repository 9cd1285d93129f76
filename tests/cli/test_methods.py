"""Every method of the command line trains, predicts and is exported as far as its kind allows."""

from __future__ import annotations

import pytest

from jaxft.cli.methods import BESIDE, IN_PEFT, METHODS
from jaxft.models import load_model
from jaxft.train import load_adapter

QUICK = ("ia3", "houlsby")
METHODS_AFTER_THE_FIRST = [name for name in METHODS if name not in ("full", "top", "head", "lora")]


def settings(method):
    return {name: 2 for name in ("rank", "size", "length") if name in METHODS[method].settings}


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in METHODS_AFTER_THE_FIRST],
)
def test_a_method_from_training_to_export(method, jaxft, finetune_words, inputs, tmp_path):
    run = tmp_path / "run"
    words = finetune_words(run, method=method, epochs=1, lr=None, eval=None, **settings(method))
    ended = jaxft(*words)
    assert ended.code == 0, ended.err
    assert jaxft("predict", "--run", run, "--data", inputs.train, "--out", tmp_path / "said.csv").code == 0
    merged = jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged")
    assert (merged.code == 0) == (method not in BESIDE), merged.err
    assert (method in BESIDE) == ("stands beside the weights" in merged.err)
    adapter = jaxft("export", "--run", run, "--format", "peft", "--out", tmp_path / "adapter")
    assert (adapter.code == 0) == (method in IN_PEFT), adapter.err
    if method in IN_PEFT:
        base = load_model(inputs.model, task="classify", labels=["bad", "good"])
        load_adapter(tmp_path / "adapter", base.params, config=base.config)


def test_a_quantised_base_under_lora(jaxft, finetune_words, inputs, tmp_path):
    run = tmp_path / "run"
    ended = jaxft(*finetune_words(run, method="lora", epochs=1, quantise="int8", eval=None))
    assert ended.code == 0, ended.err
    assert "LoRA of rank 8 on int8" in (run / "report.md").read_text()
    assert jaxft("predict", "--run", run, "--data", inputs.train, "--out", tmp_path / "said.csv").code == 0
    merged = jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged")
    assert merged.code == 0, merged.err
    moved = [line.split()[0] for line in merged.out.splitlines() if "encoder/" in line]
    assert all("query" in path or "value" in path for path in moved), moved
