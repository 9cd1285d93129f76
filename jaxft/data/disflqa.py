"""The packaged Disfl-QA: questions with the slips of spoken language, answered by a span of a passage."""

from __future__ import annotations

import re

from jaxft.data.held_out import TrainTest, split_by_key
from jaxft.data.table import Table
from jaxft.data.tables import read_table
from jaxft.errors import InputError
from jaxft.files import fetch

_UNANSWERABLE = "unknown"


def disflqa() -> TrainTest:
    """The 755 answerable questions of the packaged Disfl-QA: 600 to train on, 155 to test on.

    Columns: ``question``, ``context``, ``answers`` and ``answer_start``: tuples, of the one answer's text and of its
    first character in the context, so ``context[start : start + len(answer)] == answer``. The texts are split into
    tokens by blanks and answers are not ("40,000" is "40 , 000"): the answer here is the first place where the
    passage has the same characters, as whole words if there is one. For 79 questions there are several such places.
    The 245 questions without an answer are left out. A row is a test row when the sha256 of its context, as an
    integer, is a multiple of five, so no passage is on both sides. Licence: CC BY 4.0.

    Raises:
        InputError: the asset cannot be fetched.

    Example:
        >>> row = disflqa().train.take([1])
        >>> row["question"][0]
        'What do petrologists use rock samples or rather electron microprobes in the laboratory for ?'
        >>> row["answers"][0], row["answer_start"][0]
        (('identifying rocks',), (15,))

    References:
        Gupta et al. (2021), Disfl-QA: A Benchmark Dataset for Understanding Disfluencies in Question Answering.
    """
    rows = read_table(fetch("disflqa") / "test.jsonl", require=("question", "passage", "answer"))
    answerable = rows.take([row for row, answer in enumerate(rows["answer"]) if answer != _UNANSWERABLE])
    spans = [_span(*pair) for pair in zip(answerable["answer"], answerable["passage"], strict=True)]
    columns = {
        "question": answerable["question"],
        "context": answerable["passage"],
        "answers": [(text,) for text, _ in spans],
        "answer_start": [(start,) for _, start in spans],
    }
    return split_by_key(Table.of(columns, "Disfl-QA"), answerable["passage"])


def _span(answer: str, passage: str) -> tuple[str, int]:
    letters = r"\s*".join(re.escape(letter) for letter in answer if not letter.isspace())
    found = re.search(rf"(?<!\w){letters}(?!\w)", passage) or re.search(letters, passage)
    if found is None:
        raise InputError(f"the Disfl-QA file lacks the answer {answer!r} in its passage: fetch the asset again")
    return found.group(), found.start()
