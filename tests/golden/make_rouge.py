"""Writes rouge.json: pairs of texts and their F-measures by the package rouge-score 0.1.2, without stemming.

python tests/golden/make_rouge.py      (in an environment of its own that has rouge-score)
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from rouge_score.rouge_scorer import RougeScorer

WORDS = [
    "the",
    "a",
    "cat",
    "Cat's",
    "sat,",
    "on",
    "mat.",
    "3.14",
    "don't",
    "co-operate",
    "naïve",
    "É",
    "2nd\nand",
    "...",
    "ran",
]
WRITTEN = [
    ("the cat sat on a mat", "A cat sat on the mat."),
    ("", "something"),
    ("something", ""),
    ("?!", "..."),
    ("word", "word"),
    ("one two three four", "four three two one"),
    ("the the the the", "the cat the"),
    ("Straße İstanbul 東京 x", "strasse istanbul x"),
]


def main() -> None:
    """Scores the written pairs and sixty random ones."""
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randrange(1, 24)))

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    rows = []
    for prediction, reference in [*WRITTEN, *((text(), text()) for _ in range(60))]:
        scores = scorer.score(target=reference, prediction=prediction)
        figures = {name: round(score.fmeasure, 9) for name, score in scores.items()}
        rows.append({"prediction": prediction, "reference": reference, "figures": figures})
    body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    Path(__file__).with_name("rouge.json").write_text(f"[\n{body}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
