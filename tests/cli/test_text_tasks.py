"""Regression, tagging and spans, each from a file to a finished run and what is read from it."""

from __future__ import annotations

import csv
import json
import random

import pytest

from jaxft.models import load_model
from tests.cli.conftest import BAD, GOOD, PLAIN
from tests.cli.test_bad_input import check_refusal, fingerprints


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tagged(rows, seed=0):
    rng = random.Random(seed)
    sentences = [rng.choices(PLAIN[:4] + GOOD + BAD, k=rng.randint(2, 5)) for _ in range(rows)]
    return [{"words": words, "tags": ["B-OPINION" if w in GOOD + BAD else "O" for w in words]} for words in sentences]


def asked(rows, seed=0):
    """The answer is the opinion in the context."""
    rng = random.Random(seed)
    found = []
    for _ in range(rows):
        words = [*rng.choices(PLAIN[:4], k=4), rng.choice(GOOD)]
        rng.shuffle(words)
        context = " ".join(words)
        text = next(word for word in words if word in GOOD)
        found.append(
            {
                "question": "was the film",
                "context": context,
                "answers": [{"text": text, "answer_start": context.index(text)}],
            }
        )
    return found


def rated(path, rows, seed):
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(rows):
            words = rng.choices(GOOD + BAD, k=3)
            writer.writerow([" ".join(words), sum(word in GOOD for word in words) / 3])
    return path


def evaluated(jaxft, run, rows):
    ended = jaxft("evaluate", "--run", run, "--eval", rows, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def history(run, name):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[f"eval/{name}"] for line in lines if f"eval/{name}" in line}


def test_numbers_are_learned_and_the_smallest_error_predicts(jaxft, finetune_words, tmp_path):
    train, held = rated(tmp_path / "train.csv", 144, 1), rated(tmp_path / "eval.csv", 20, 2)
    run, out = tmp_path / "run", tmp_path / "p.csv"
    ended = jaxft(*finetune_words(run, task="regress", train=train, eval=held, epochs=6, lr=0.01))
    assert ended.code == 0, ended.err
    figures = evaluated(jaxft, run, held)
    errors = history(run, "mse")
    assert figures["step"] == min(errors, key=lambda step: (errors[step], step))
    assert figures["mse"] == pytest.approx(min(errors.values()))
    assert figures["pearson"] > 0.8
    assert "Pearson correlation" in (run / "report.md").read_text()
    assert jaxft("predict", "--run", run, "--data", held, "--out", out).code == 0
    with out.open() as found, held.open() as true:
        pairs = list(zip(csv.DictReader(found), csv.DictReader(true), strict=True))
    assert {tuple(row) for row, _ in pairs} == {("text", "value")}
    squares = [(float(row["value"]) - float(label["label"])) ** 2 for row, label in pairs]
    assert sum(squares) / len(squares) == pytest.approx(figures["mse"], abs=1e-5)
    assert jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged").code == 0
    assert load_model(tmp_path / "merged", task="regress").config.num_labels == 1


def test_tags_are_learned_and_given_to_every_word(jaxft, finetune_words, tmp_path):
    train, held = write_jsonl(tmp_path / "t.jsonl", tagged(48)), write_jsonl(tmp_path / "e.jsonl", tagged(16, 1))
    run, out = tmp_path / "run", tmp_path / "p.jsonl"
    ended = jaxft(*finetune_words(run, task="tag", train=train, eval=held))
    assert ended.code == 0, ended.err
    figures = evaluated(jaxft, run, held)
    assert figures["f1"] == max(history(run, "f1").values()) > 0.6
    assert json.loads((run / "run.json").read_text())["labels"] == ["B-OPINION", "O"]
    assert jaxft("predict", "--run", run, "--data", held, "--out", out).code == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["words"] for row in found] == [row["words"] for row in tagged(16, 1)]
    pairs = [pair for a, b in zip(found, tagged(16, 1), strict=True) for pair in zip(a["tags"], b["tags"], strict=True)]
    right = [given == true for given, true in pairs]
    assert sum(right) / len(right) == pytest.approx(figures["accuracy"])
    check_refusal(jaxft("predict", "--run", run, "--data", held, "--out", tmp_path / "p.csv"), "end in .jsonl")
    ended = jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged")
    assert "tags that differ" in ended.out
    unseen = write_jsonl(tmp_path / "unseen.jsonl", [{"words": ["fine"], "tags": ["B-PINION"]}])
    check_refusal(jaxft("evaluate", "--run", run, "--eval", unseen), "'B-PINION' in row 1", "nearest: B-OPINION")


def test_spans_are_found_and_files_like_squad_are_read(jaxft, finetune_words, tmp_path):
    train, held = write_jsonl(tmp_path / "t.jsonl", asked(64)), tmp_path / "e.json"
    paragraphs = [
        {"context": row["context"], "qas": [{"id": f"q{i}", "question": row["question"], "answers": row["answers"]}]}
        for i, row in enumerate(asked(16, 1))
    ]
    held.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    run, out = tmp_path / "run", tmp_path / "p.csv"
    ended = jaxft(*finetune_words(run, task="spans", train=train, eval=held, max_length=14, method="full", epochs=8))
    assert ended.code == 0, ended.err
    figures = evaluated(jaxft, run, held)
    assert figures["f1"] == max(history(run, "f1").values()) > 0.4
    assert jaxft("predict", "--run", run, "--data", held, "--out", out).code == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"q{i}" for i in range(16)]
    exact = [row["answer"] == true["answers"][0]["text"] for row, true in zip(rows, asked(16, 1), strict=True)]
    assert sum(exact) / 16 == pytest.approx(figures["exact_match"])
    assert jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged").code == 0


def test_long_contexts_become_windows(jaxft, finetune_words, tmp_path):
    rows = write_jsonl(tmp_path / "t.jsonl", asked(8))
    words = finetune_words(tmp_path / "run", task="spans", train=rows, eval=None, max_length=9, epochs=1)
    ended = jaxft(*[word for word in words if word != "--quiet"])
    assert ended.code == 0, ended.err
    assert "8 questions in 24 windows of at most 9 tokens" in ended.out


BAD_ROWS = {
    "words without tags": ("tag", [{"words": ["fine"]}], ["no column 'tags'"]),
    "other numbers of tags": (
        "tag",
        [{"words": ["a", "film"], "tags": ["O", "B-X"]}, {"words": ["a"], "tags": ["O", "B-X"]}],
        ["row 2 (line 2)", "1 words but 2 tags"],
    ),
    "words that are no list": ("tag", [{"words": "a film", "tags": "O"}], ["'words' must be a list", "row 1 (line 1)"]),
    "one tag": ("tag", [{"words": ["a"], "tags": ["O"]}], ["a tagger needs two"]),
    "an answer that is elsewhere": (
        "spans",
        [*asked(1), {"question": "a", "context": "the film", "answers": [{"text": "film", "answer_start": 1}]}],
        ["'film'", "character 1", "row 2 (line 2)", "it stands at 4"],
    ),
    "an answer without a place": (
        "spans",
        [{"question": "a", "context": "the film", "answers": [{"text": "film"}]}],
        ["row 1 (line 1)", "answer_start"],
    ),
    "a question without an answer": (
        "spans",
        [*asked(1), {"question": "a", "context": "the film", "answers": []}],
        ["row 2 (line 2)", "has no answer"],
    ),
    "no context": ("spans", [{"question": "a", "answers": []}], ["no column 'context'"]),
    "a label that is no number": (
        "regress",
        [{"text": "a film", "label": 1}, {"text": "a film", "label": "fine"}],
        ["needs finite numbers", "row 2 (line 2)", "'fine'"],
    ),
}


@pytest.mark.parametrize(("task", "rows", "parts"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_rows(task, rows, parts, jaxft, finetune_words, tmp_path):
    table = write_jsonl(tmp_path / "bad.jsonl", rows)
    check_refusal(jaxft(*finetune_words(tmp_path / "run", task=task, train=table, eval=None)), *parts)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_a_file_that_is_not_like_squad(jaxft, finetune_words, tmp_path):
    for content, part in (("[", "not valid JSON"), ('{"data": [{"x": 1}]}', "format of SQuAD"), ("[]", "JSON object")):
        (tmp_path / "bad.json").write_text(content)
        words = finetune_words(tmp_path / "run", task="spans", train=tmp_path / "bad.json", eval=None)
        check_refusal(jaxft(*words), "bad.json", part)


OTHERS_OPTIONS = {
    "pooling": ({"task": "spans", "pooling": "cls"}, "--pooling belongs to --task classify or regress"),
    "image size": ({"image_size": 32}, "--image-size belongs to --task images"),
    "generated rows": ({"task": "lm", "generate_rows": 4}, "--generate-rows belongs to --task seq2seq"),
    "a model of another kind": ({"task": "lm"}, "bert models are loaded for"),
}


@pytest.mark.parametrize(("changes", "part"), OTHERS_OPTIONS.values(), ids=OTHERS_OPTIONS)
def test_what_belongs_to_another_task(changes, part, jaxft, finetune_words, tmp_path):
    check_refusal(jaxft(*finetune_words(tmp_path / "run", **changes)), part)
    assert list(tmp_path.iterdir()) == []


def test_a_run_made_before_there_were_tasks_is_a_classification(jaxft, finetune_words, inputs, tmp_path):
    words = finetune_words(tmp_path / "run", epochs=1, method="head")
    assert jaxft(*words).code == 0
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text())
    assert content["configuration"].pop("task") == "classify"
    path.write_text(json.dumps(content))
    for manifest in (tmp_path / "run" / "checkpoints").glob("*/manifest.json"):
        assert "task" not in json.loads(manifest.read_text())["config"]
    before = fingerprints(tmp_path / "run" / "checkpoints")
    assert jaxft(*words, "--resume").code == 0
    assert fingerprints(tmp_path / "run" / "checkpoints") == before
    assert evaluated(jaxft, tmp_path / "run", inputs.eval)["accuracy"] > 0


def test_texts_that_are_cut_are_counted(run, jaxft, tmp_path, caplog):
    table, out = tmp_path / "long.csv", tmp_path / "p.csv"
    table.write_text("text,label\nthe film,good\n" + "the film " * 40 + ",bad\n")
    for words in (("predict", "--data", table, "--out", out), ("evaluate", "--eval", table)):
        caplog.clear()
        assert jaxft(*words, "--run", run).code == 0
        assert f"1 text is longer than the 12 tokens of the run and cut in {table}" in caplog.text
