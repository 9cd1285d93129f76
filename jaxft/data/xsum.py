"""The packaged XSum: news articles, each with a summary of one sentence."""

from __future__ import annotations

from jaxft.data.held_out import TrainTest, split_by_key
from jaxft.data.table import Table
from jaxft.data.tables import read_table
from jaxft.files import fetch


def xsum() -> TrainTest:
    """999 articles of XSum's published test split, cut into 786 rows to train on and 213 to test on.

    Columns: ``text`` (the article), ``target`` (its summary) and ``id``. One article without a text is left out. A
    row is a test row when the sha256 of its id, as an integer, is a multiple of five. Licence: the package's is
    Apache-2.0; the articles are the BBC's.

    Raises:
        InputError: the asset cannot be fetched.

    Example:
        >>> xsum().train["target"][0]
        'Former Premier League footballer Sam Sodje has appeared in court alongside three brothers accused of charity
        fraud.'

    References:
        Narayan et al. (2018), Don't Give Me the Details, Just the Summary! Topic-Aware Convolutional Neural Networks
        for Extreme Summarization.
    """
    rows = read_table(fetch("xsum") / "test.jsonl", require=("id", "document", "summary"))
    rows = rows.take([row for row, document in enumerate(rows["document"]) if document.strip()])
    columns = {"text": rows["document"], "target": rows["summary"], "id": rows["id"]}
    return split_by_key(Table.of(columns, "XSum"), rows["id"])
