"""Writes seqeval.json: BIO tags and the entities and figures that the package seqeval 1.2.2 finds in its default mode.

python tests/golden/make_seqeval.py      (in an environment of its own that has seqeval)
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def main() -> None:
    """Scores sets of random texts."""
    rng = random.Random(0)
    cases = []
    for _ in range(12):
        lengths = [rng.randrange(1, 12) for _ in range(4)]
        true, predicted = ([[rng.choice(TAGS) for _ in range(n)] for n in lengths] for _ in range(2))
        cases.append(
            {
                "true": true,
                "predicted": predicted,
                "entities": [get_entities(tags) for tags in true],
                "precision": precision_score(true, predicted, zero_division=0),
                "recall": recall_score(true, predicted, zero_division=0),
                "f1": f1_score(true, predicted, zero_division=0),
            }
        )
    body = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("seqeval.json").write_text(f"[\n{body}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
