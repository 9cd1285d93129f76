"""The packaged domains have the rows the literature's protocol expects, and no document on both sides."""

from __future__ import annotations

import hashlib

import pytest

from jaxft import InputError
from jaxft.data import DOMAINS, sentiment, vocabulary

COUNTS = {"movies": (8440, 2128), "amazon": (2999, 611), "nyt": (4078, 868), "tweets": (3377, 819)}


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_its_rows(domain):
    split = sentiment(domain)
    assert (len(split.train), len(split.test)) == COUNTS[domain]
    assert split.domain == domain
    assert split.labels == vocabulary(split.train)
    assert split.labels.names == ("negative", "positive")
    for table in (split.train, split.test):
        assert set(table["label"]) == {"negative", "positive"}
        assert all(text.strip() == text and text for text in table["text"])
        assert not any("\t" in text or "\r" in text or "\ufffd" in text for text in table["text"])


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_document_is_on_both_sides(domain):
    split = sentiment(domain)
    assert not set(split.train["document"]) & set(split.test["document"])
    if domain in ("movies", "tweets"):
        assert not set(split.train["text"]) & set(split.test["text"])


@pytest.mark.parametrize(("domain", "key"), [("movies", "text"), ("nyt", "document")])
def test_the_split_is_a_hash_of_the_key(domain, key):
    split = sentiment(domain)
    for table, held_out in ((split.train, False), (split.test, True)):
        for row in list(table)[:200]:
            assert (int(hashlib.sha256(row[key].encode()).hexdigest(), 16) % 5 == 0) == held_out


def test_texts_beyond_ascii_are_read_as_they_were_written():
    texts = [*sentiment("movies").train["text"], *sentiment("tweets").train["text"]]
    assert any("é" in text for text in texts)
    assert any("£1000" in text for text in texts)
    assert not any("Ã" in text or "â€" in text for text in texts)


def test_a_source_and_a_target_without_training_labels():
    shift = sentiment(source="movies", target="amazon")
    assert shift.source == sentiment("movies")
    assert shift.target.train.names == ("text", "document")
    assert shift.target.train["text"] == sentiment("amazon").train["text"]
    assert shift.target.test == sentiment("amazon").test


@pytest.mark.parametrize(
    ("args", "names"),
    [(("movie",), {}), ((), {"source": "movies", "target": "amzon"}), (("books",), {})],
)
def test_an_unknown_domain_is_named(args, names):
    with pytest.raises(InputError, match="there is no domain"):
        sentiment(*args, **names)


@pytest.mark.parametrize("names", [{}, {"source": "movies"}, {"target": "nyt"}, {"domain": "nyt", "target": "nyt"}])
def test_one_domain_or_two_are_named(names):
    with pytest.raises(InputError, match="name one domain"):
        sentiment(**names)
