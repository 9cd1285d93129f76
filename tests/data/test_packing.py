"""No token is lost, no label crosses documents, rows are full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import InputError
from jaxft.data import arrays, batches, best_fit, eval_batches, fill_rate, language_modelling, pack, sentiment
from jaxft.data.tokens import tokenise

IGNORED = -100


class Letters:
    """A tokenizer whose tokens are characters, counted on so that each is a token of its own."""

    pad_token_id = 0

    def __init__(self, end=None):
        self.eos_token_id = end
        self.seen = 1

    def __call__(self, texts, **settings):
        assert settings["truncation"] is False
        rows = []
        for text in texts:
            rows.append(list(range(self.seen + 1, self.seen + 1 + len(text))))
            self.seen += len(text)
        return {"input_ids": rows}


def pieces(dataset):
    """(tokens, labels) of every segment of every row of the batches."""
    for batch in eval_batches(dataset, batch_size=3):
        for row in np.flatnonzero(batch["mask"]):
            segments = batch["segment_ids"][row]
            np.testing.assert_array_equal(segments > 0, batch["attention_mask"][row] == 1)
            assert (batch["labels"][row][segments == 0] == IGNORED).all()
            for number in range(1, segments.max() + 1):
                inside = segments == number
                assert inside.any()
                yield batch["input_ids"][row][inside].tolist(), batch["labels"][row][inside].tolist()


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    length=st.integers(2, 16),
    end=st.none() | st.just(1),
)
def test_every_token_appears_once_and_no_label_crosses(sizes, length, end):
    dataset = pack(Letters(end), ["x" * size for size in sizes], length=length)
    documents = [
        [*ids, *([] if end is None else [end])]
        for ids in Letters()(["x" * n for n in sizes], truncation=False)["input_ids"]
    ]
    want = sorted(d[start : start + length] for d in documents for start in range(0, len(d), length))
    found = list(pieces(dataset))
    assert sorted(ids for ids, _ in found) == want
    for ids, labels in found:
        assert labels == [*ids[1:], IGNORED]
    assert dataset.max_length == length
    assert dataset.lengths.max() <= length


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 12), max_size=60))
def test_bins_hold_every_piece_and_no_two_could_be_one(sizes):
    bins = best_fit(sizes, 12)
    assert sorted(piece for pieces in bins for piece in pieces) == list(range(len(sizes)))
    fill = sorted(sum(sizes[piece] for piece in pieces) for pieces in bins)
    assert not fill or fill[-1] <= 12
    assert len(fill) < 2 or fill[0] + fill[1] > 12
    assert best_fit(sizes, 12) == bins


def test_real_text_fills_its_rows(minilm_tokenizer):
    texts = sentiment("movies").train["text"][:3000]
    dataset = pack(minilm_tokenizer, texts, length=128)
    assert fill_rate(dataset) > 0.99
    assert fill_rate(language_modelling(minilm_tokenizer, texts, max_length=128)) < 0.5
    again = pack(minilm_tokenizer, texts, length=128)
    np.testing.assert_array_equal(again.columns["input_ids"].values, dataset.columns["input_ids"].values)
    total = sum(len(ids) for ids in minilm_tokenizer(list(texts))["input_ids"])
    assert len(dataset.columns["input_ids"].values) == total


def test_one_document_a_row_is_cut_and_counted():
    dataset = language_modelling(Letters(end=1), ["xxx", "xxxxxx"], max_length=5)
    batch = dataset.rows(np.arange(2))
    assert dataset.truncated == 1
    assert batch["input_ids"].tolist() == [[2, 3, 4, 1, 0], [5, 6, 7, 8, 9]]
    assert batch["labels"].tolist() == [[3, 4, 1, -100, -100], [6, 7, 8, 9, -100]]


def test_an_end_that_is_there_is_not_doubled():
    class Ended(Letters):
        def __call__(self, texts, **settings):
            return {"input_ids": [[5, 1] for _ in texts]}

    dataset = language_modelling(Ended(end=1), ["x"], max_length=5)
    assert dataset.columns["input_ids"].values.tolist() == [5, 1]


def test_rows_that_fill_a_batch_have_no_labels():
    batch = batches(language_modelling(Letters(), ["xxx"], max_length=4), batch_size=2, seed=0)[0]
    assert batch["labels"].tolist() == [[3, 4, -100, -100], [-100] * 4]
    assert batch["mask"].tolist() == [True, False]


@pytest.mark.parametrize("length", [1, 0, 2.5, True])
def test_lengths_without_room_are_refused(length):
    with pytest.raises(InputError, match="length must be a whole number from 2 up"):
        pack(Letters(), ["xx"], length=length)
    with pytest.raises(InputError, match="max_length must be a whole number from 2 up"):
        language_modelling(Letters(), ["xx"], max_length=length)


@pytest.mark.usefixtures("cache")
def test_texts_that_cannot_be_are_refused(tokenizer):
    with pytest.raises(InputError, match="got one text 'a good film'; put it in a list"):
        pack(tokenizer, "a good film", length=8)
    with pytest.raises(InputError, match="'text' is empty in row 2"):
        pack(tokenizer, ["good", " "], length=8)
    with pytest.raises(InputError, match="fill_rate is about rows of tokens"):
        fill_rate(arrays({"x": np.ones(3)}))

    class Silent(Letters):
        def __call__(self, texts, **settings):
            return {"input_ids": [[] for _ in texts]}

    with pytest.raises(InputError, match="finds no token in row 1"):
        pack(Silent(), ["good"], length=8)


@pytest.mark.usefixtures("cache")
def test_what_an_earlier_call_left_in_the_tokenizer_does_not_cut(tokenizer):
    tokenise(tokenizer, pack_table(), max_length=4)
    tokenizer(["a"], truncation=True, max_length=3)
    dataset = language_modelling(tokenizer, pack_table(), max_length=20)
    assert dataset.columns["input_ids"].values.tolist() == [2, 4, 5, 7, 8, 9, 10, 3]


def pack_table():
    from jaxft.data import Table

    return Table.of({"text": ["a good film with no end"]})
