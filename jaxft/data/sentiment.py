"""The packaged sentiment data: sentences of four domains, each rated by twenty people.

References:
    Hutto and Gilbert (2014), VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, overload

from jaxft.data.held_out import is_held_out
from jaxft.data.labels import Vocabulary
from jaxft.data.table import Table
from jaxft.errors import InputError, nearest
from jaxft.files import fetch

DOMAINS = ("movies", "amazon", "nyt", "tweets")
_FILES = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
_LABELS = Vocabulary(("negative", "positive"))
_OF_DOCUMENTS = ("amazon", "nyt")


class Split(NamedTuple):
    """The rows of one domain.

    Attributes:
        train: four fifths, about.
        test: the rest.
        domain: one of movies, amazon, nyt, tweets.
        labels: the vocabulary: negative is 0, positive is 1.
    """

    train: Table
    test: Table
    domain: str
    labels: Vocabulary


class Shift(NamedTuple):
    """Two domains for adaptation from one to the other.

    Attributes:
        source: rows with labels.
        target: rows whose training table has no column ``label``; its test table has one, to measure with.
    """

    source: Split
    target: Split


@overload
def sentiment(domain: str) -> Split: ...
@overload
def sentiment(*, source: str, target: str) -> Shift: ...
def sentiment(domain: str | None = None, *, source: str | None = None, target: str | None = None) -> Split | Shift:
    """Sentences with a label, negative or positive: one domain, or a source and an unlabelled target.

    The label is the sign of the mean rating; sentences rated zero are left out. A row is a test row when the
    sha256 of its key, as an integer, is a multiple of five. The key is the text (movies, tweets) or the document's
    number (amazon, nyt), so no document is on both sides. Columns: ``text``, ``label``, ``document``.

    Args:
        domain: movies (8,440 training and 2,128 test rows), amazon (2,999 and 611), nyt (4,078 and 868) or
            tweets (3,377 and 819).
        source: the domain with labels.
        target: the domain whose training rows come without labels; ``sentiment(target).train`` has them.

    Raises:
        InputError: there is no such domain, neither a domain nor a source and target are named, or the asset
            cannot be fetched.

    Example:
        >>> sentiment("movie")
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: there is no domain 'movie' (nearest: movies, amazon)

    References:
        Hutto and Gilbert (2014), VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text.
    """
    if domain is not None and source is None and target is None:
        return _split(domain)
    if domain is None and source is not None and target is not None:
        unlabelled = _split(target)
        return Shift(_split(source), unlabelled._replace(train=unlabelled.train.drop("label")))
    raise InputError("name one domain, sentiment('movies'), or two, sentiment(source='movies', target='amazon')")


def _split(domain: str) -> Split:
    if domain not in DOMAINS:
        raise InputError(f"there is no domain {domain!r} ({nearest(domain, DOMAINS)})")
    path = fetch("sentiment") / _FILES[domain]
    rows = _rows(path)
    key = _document if domain in _OF_DOCUMENTS else _text
    held_out = [is_held_out(key(row)) for row in rows]
    train = [row for row, out in zip(rows, held_out, strict=True) if not out]
    test = [row for row, out in zip(rows, held_out, strict=True) if out]
    return Split(_table(train, f"{domain} (train)"), _table(test, f"{domain} (test)"), domain, _LABELS)


class _Row(NamedTuple):
    identity: str
    rating: float
    text: str


def _rows(path: Path) -> list[_Row]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line:
            identity, rating, text = line.split("\t")
            rows.append(_Row(identity, float(rating), text.strip()))
    return [row for row in rows if row.rating != 0]


def _text(row: _Row) -> str:
    return row.text


def _document(row: _Row) -> str:
    return row.identity.split("_")[0]


def _table(rows: list[_Row], source: str) -> Table:
    columns = {
        "text": [row.text for row in rows],
        "label": [_LABELS.names[row.rating > 0] for row in rows],
        "document": [_document(row) for row in rows],
    }
    return Table.of(columns, source)
