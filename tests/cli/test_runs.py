"""A run directory, what each method leaves in it, and what is read from it."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from jaxft.cli.methods import METHODS
from jaxft.cli.rebuild import load_run
from jaxft.models import load_model
from jaxft.train import load_adapter, predict

BATCH = {"input_ids": np.array([[2, 4, 10, 3], [2, 7, 11, 3]]), "attention_mask": np.ones((2, 4), np.int32)}


def logits(trained):
    return predict(trained.model.apply, trained.params, [BATCH])


def test_a_run_directory_says_everything(run, inputs):
    record = json.loads((run / "run.json").read_text())
    assert record["labels"] == ["bad", "good"]
    assert record["steps"] == 24
    assert record["configuration"]["settings"] == {
        "rank": 8,
        "alpha": 16.0,
        "dropout": 0.0,
        "target": ["**/attention/{query,value}/kernel"],
    }
    assert record["data"]["eval"]["rows"] == 30
    assert record["data"]["train"]["source"] == str(inputs.train)
    assert {"python", "jax", "jaxft"} <= record["versions"].keys()
    assert record["hardware"]["devices"]
    assert len(record["base"]) == 64
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval/accuracy" in line] == [6, 12, 18, 24]
    report = (run / "report.md").read_text()
    assert "| trained parameters | 1,058 of " in report  # 4 kernels × 8 × (16 + 16), and a head of 16 × 2 + 2
    assert "![Training loss and evaluation accuracy over epochs](curve.png)" in report
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_checkpoint_is_the_one_that_predicts(run, jaxft, inputs, tmp_path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = {line["step"]: line["eval/accuracy"] for line in lines if "eval/accuracy" in line}
    best = max(evaluated, key=lambda step: (evaluated[step], -step))
    ended = jaxft("evaluate", "--run", run, "--eval", inputs.eval, "--json")
    figures = json.loads(ended.out)
    assert (ended.code, figures["step"], figures["checkpoint"]) == (0, best, "best")
    assert figures["accuracy"] == evaluated[best] > 0.6
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    table = jaxft("evaluate", "--run", run, "--eval", inputs.eval).out
    assert f"{evaluated[best]:.4f}" in table
    assert f"30 rows, best checkpoint, step {best} of 24" in table


def test_predictions_agree_with_the_evaluation(run, jaxft, inputs, tmp_path):
    out = tmp_path / "new" / "predictions.csv"
    ended = jaxft("predict", "--run", run, "--data", inputs.eval, "--out", out)
    assert ended.code == 0, ended.err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with inputs.eval.open(newline="") as file:
        truth = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [row["text"] for row in truth]
    for row in rows:
        bad, good = float(row["probability_bad"]), float(row["probability_good"])
        assert bad + good == pytest.approx(1, abs=2e-6)
        assert row["label"] == ("good" if good > bad else "bad")
    right = sum(row["label"] == true["label"] for row, true in zip(rows, truth, strict=True))
    figures = json.loads(jaxft("evaluate", "--run", run, "--eval", inputs.eval, "--json").out)
    assert right / 30 == pytest.approx(figures["accuracy"])


def test_a_merged_export_predicts_what_the_run_does(run, jaxft, tmp_path):
    ended = jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged")
    assert ended.code == 0, ended.err
    first, float32, bfloat16, int8 = (line.split() for line in ended.out.splitlines() if "of 64" in line or "‖" in line)
    assert first == ["weight", "‖ΔW‖", "/", "‖W‖"]
    assert [line[0] for line in (float32, bfloat16, int8)] == ["float32", "bfloat16", "int8"]
    assert float32[2:] == ["0", "of", "64"]
    assert float(float32[1]) < float(bfloat16[1]) < float(int8[1])
    assert "encoder/layer_0/attention/query/kernel" in ended.out
    assert "encoder/layer_0/attention/output/kernel" not in ended.out
    assert "read back, its logits on 64 rows" in ended.out
    merged = load_model(tmp_path / "merged", task="classify")
    assert merged.config.labels == ("bad", "good")
    expected = logits(load_run(run))
    np.testing.assert_allclose(predict(merged.apply, merged.params, [BATCH]), expected, atol=1e-5)
    base = load_model(json.loads((run / "run.json").read_text())["configuration"]["model"], task="features")
    kernel = base.params["encoder"]["layer_0"]["attention"]["query"]["kernel"]
    assert not np.allclose(kernel, merged.params["encoder"]["layer_0"]["attention"]["query"]["kernel"])


def test_the_adapter_is_the_one_that_export_writes(run, jaxft, inputs, tmp_path):
    assert jaxft("export", "--run", run, "--format", "peft", "--out", tmp_path / "adapter").code == 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "adapter" / name).read_bytes() == (run / "adapter" / name).read_bytes()
    base = load_model(inputs.model, task="classify", labels=["bad", "good"])
    adaptation, frozen, delta = load_adapter(run / "adapter", base.params, config=base.config)
    found = predict(base.apply, adaptation.bind(frozen, delta), [BATCH])
    np.testing.assert_allclose(found, logits(load_run(run)), atol=1e-6)


@pytest.mark.parametrize(
    ("method", "changes", "trained"),
    [("head", {}, 34), ("top", {"layers": 1}, 34 + 2224), ("full", {"dtype": "bfloat16"}, None)],
)
def test_a_method_trains_what_it_says(method, changes, trained, jaxft, finetune_words, inputs, tmp_path):
    words = finetune_words(tmp_path / "run", method=method, epochs=1, lr=None, eval=None, **changes)
    assert jaxft(*words).code == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["configuration"]["lr"] == METHODS[method].rate
    report = (tmp_path / "run" / "report.md").read_text()
    assert "there is no `adapter/`" in report
    assert not (tmp_path / "run" / "adapter").exists()
    base = load_model(inputs.model, task="classify", num_labels=2)
    counted = sum(leaf.size for leaf in _leaves(base.params)) if trained is None else trained
    assert f"| trained parameters | {counted:,} of " in report
    figures = json.loads(jaxft("evaluate", "--run", tmp_path / "run", "--eval", inputs.eval, "--json").out)
    assert (figures["step"], figures["checkpoint"]) == (6, "last")
    assert jaxft("export", "--run", tmp_path / "run", "--format", "merged", "--out", tmp_path / "merged").code == 0
    refused = jaxft("export", "--run", tmp_path / "run", "--format", "peft", "--out", tmp_path / "peft")
    assert (refused.code, "--format merged" in refused.err) == (2, True)
    assert not (tmp_path / "peft").exists()


def _leaves(tree):
    return [leaf for value in tree.values() for leaf in (_leaves(value) if isinstance(value, dict) else [value])]


def test_pairs_of_texts_and_the_pooled_first_token(jaxft, finetune_words, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"text": "the film", "text_pair": ("was fine", "was dull")[i % 2], "label": i % 2} for i in range(16)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "run"
    assert jaxft(*finetune_words(out, train=pairs, eval=pairs, pooling="cls", method="head", epochs=1)).code == 0
    assert jaxft("predict", "--run", out, "--data", pairs, "--out", tmp_path / "p.csv").code == 0
    assert (tmp_path / "p.csv").read_text().startswith("text,text_pair,label,probability_0,probability_1\n")
    single = tmp_path / "single.csv"
    single.write_text("text,label\nthe film,0\n")
    refused = jaxft("evaluate", "--run", out, "--eval", single)
    assert (refused.code, "trained on pairs" in refused.err) == (2, True)


def test_a_base_that_moved_is_named_again(run, jaxft, inputs, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(inputs.model, copy)
    ended = jaxft("evaluate", "--run", run, "--eval", inputs.eval, "--model", copy, "--json")
    there = jaxft("evaluate", "--run", run, "--eval", inputs.eval, "--json")
    assert (ended.code, ended.out) == (0, there.out)


@pytest.mark.slow
def test_the_packaged_model_learns_movie_reviews(jaxft, tmp_path):
    from jaxft.data import sentiment

    split = sentiment("movies")
    for name, table, rows in (("train", split.train, range(0, 8000, 20)), ("eval", split.test, range(0, 2000, 10))):
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows((table["text"][row], table["label"][row]) for row in rows)
    words = ("--model", "minilm", "--method", "lora", "--max-length", 48, "--epochs", 3, "--lr", 2e-3)
    files = ("--train", tmp_path / "train.csv", "--eval", tmp_path / "eval.csv")
    ended = jaxft("finetune", *words, *files, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "74,498 of 22,566,146 parameters learn, 39 steps of 32 rows" in " ".join(ended.out.split())
    figures = json.loads(jaxft("evaluate", "--run", tmp_path / "run", "--eval", tmp_path / "eval.csv", "--json").out)
    assert figures["accuracy"] > 0.7  # the larger class is about half
    assert jaxft("export", "--run", tmp_path / "run", "--format", "merged", "--out", tmp_path / "merged").code == 0
