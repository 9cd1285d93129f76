"""Questions whose context holds no answer."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from jaxft.models import load_model
from tests.cli.conftest import GOOD, PLAIN


def unanswerable(rows: int) -> list[dict]:
    return [
        {"question": "was the film", "context": " ".join(PLAIN[i % 2 :][:3]), "answers": [], "is_impossible": True}
        for i in range(rows)
    ]


def answerable(rows: int) -> list[dict]:
    return [
        {
            "question": "was the film",
            "context": f"the film {GOOD[i % len(GOOD)]}",
            "answers": [{"text": GOOD[i % len(GOOD)], "answer_start": 9}],
            "is_impossible": False,
        }
        for i in range(rows)
    ]


def squad(path: Path, rows: list[dict]) -> Path:
    """The same rows in a file of SQuAD 2."""
    asked = [(row["context"], {name: row[name] for name in ("question", "answers", "is_impossible")}) for row in rows]
    paragraphs = [{"context": context, "qas": [{"id": f"q{i}"} | qa]} for i, (context, qa) in enumerate(asked)]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return path


@pytest.mark.parametrize("learned", [unanswerable, answerable])
def test_nothing_is_an_answer_where_a_run_learned_that_it_may_be(learned, jaxft, finetune_words, tmp_path):
    train, held = squad(tmp_path / "t.json", learned(32)), squad(tmp_path / "e.json", unanswerable(8))
    run, out, known = tmp_path / "run", tmp_path / "p.csv", learned is unanswerable
    ended = jaxft(*finetune_words(run, task="spans", train=train, eval=held, max_length=14, method="full", epochs=3))
    assert ended.code == 0, ended.err
    assert json.loads((run / "run.json").read_text())["labels"] == (["no answer"] if known else [])
    assert jaxft("predict", "--run", run, "--data", held, "--out", out).code == 0
    with out.open() as file:
        assert [not row["answer"] for row in csv.DictReader(file)] == [known] * 8
    ended = jaxft("evaluate", "--run", run, "--eval", held, "--json")
    assert json.loads(ended.out)["exact_match"] == float(known)
    assert jaxft("export", "--run", run, "--format", "merged", "--out", tmp_path / "merged").code == 0
    assert load_model(tmp_path / "merged", task="spans").config.labels == ("start", "end")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"is_impossible": False}, ["row 2 (line 2)", "has no answer", "mark those", "is_impossible: true"]),
        ({"is_impossible": "no"}, ["row 2 (line 2)", "true or false", "'no'"]),
        (
            {"answers": [{"text": "the", "answer_start": 0}], "context": "the film"},
            ["row 2 (line 2)", "marked", "'the'"],
        ),
    ],
)
def test_marks_that_do_not_fit_are_refused(change, parts, jaxft, finetune_words, tmp_path):
    table = tmp_path / "bad.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in (unanswerable(1)[0], unanswerable(1)[0] | change)))
    ended = jaxft(*finetune_words(tmp_path / "run", task="spans", train=table, eval=None))
    assert ended.code == 2
    assert [part for part in parts if part not in ended.err] == []
    assert not (tmp_path / "run").exists()
