"""The packaged BoolQ: questions people asked a search engine, each with a passage that answers it by yes or no."""

from __future__ import annotations

from typing import Any

from jaxft.data.held_out import TrainTest
from jaxft.data.table import Table
from jaxft.data.tables import read_table
from jaxft.files import fetch


def boolq() -> TrainTest:
    """BoolQ as sentence pairs: 9,427 rows to train on and the 3,270 development rows to test on, in their own order.

    Columns: ``text`` (the question), ``text_pair`` (the passage, which starts with its title and " -- ") and ``label``
    ("yes" for 5,874 training and 2,033 test rows, else "no"). The split is the published one: 720 of the 2,939 test
    passages are passages of training rows too, with another question. Licence: CC BY-SA 3.0.

    Raises:
        InputError: the asset cannot be fetched.

    Example:
        >>> split = boolq()
        >>> len(split.train), split.test["text"][0], split.test["label"][0]
        (9427, 'does ethanol take more energy make that produces', 'no')

    References:
        Clark et al. (2019), BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions.
    """
    directory = fetch("boolq")
    rows = [row for row in read_table(directory / "combined.jsonl", require=("idx",)) if row["label"] is not None]
    rows.sort(key=lambda row: row["idx"])  # the place of a row in the split it comes from
    development = set(read_table(directory / "dev.jsonl", require=("question",))["question"])
    train = [row for row in rows if row["question"] not in development]
    test = [row for row in rows if row["question"] in development]
    return TrainTest(_table(train, "BoolQ (train)"), _table(test, "BoolQ (test)"))


def _table(rows: list[dict[str, Any]], source: str) -> Table:
    columns = {
        "text": [row["question"] for row in rows],
        "text_pair": [row["passage"] for row in rows],
        "label": ["yes" if row["label"] else "no" for row in rows],
    }
    return Table.of(columns, source)
