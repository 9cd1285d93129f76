"""Start, delimiter and extract stand where the paper puts them, and are never cut off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import InputError
from jaxft.data import Table, both_orders, structured

TOKENS = {"start": 100, "delimiter": 101, "extract": 102}


def rows_of(dataset):
    column = dataset.columns["input_ids"]
    return [column.values[a:b].tolist() for a, b in zip(column.offsets, column.offsets[1:], strict=False)]


def test_one_text_and_pairs(tokenizer):
    one = structured(tokenizer, Table.of({"text": ["a good film", "bad"]}), max_length=8, **TOKENS)
    assert rows_of(one) == [[100, 4, 5, 7, 102], [100, 6, 102]]
    pair = Table.of({"text": ["a film", "bad"], "text_pair": ["good", "no end"]})
    two = structured(tokenizer, pair, max_length=8, labels=[1, 0], **TOKENS)
    assert rows_of(two) == [[100, 4, 7, 101, 5, 102], [100, 6, 101, 9, 10, 102]]
    batch = two.rows(np.arange(2))
    last = batch["attention_mask"].sum(1) - 1
    assert batch["input_ids"][[0, 1], last].tolist() == [102, 102]
    assert batch["labels"].tolist() == [1, 0]


@settings(deadline=None, max_examples=60)
@given(a=st.integers(1, 12), b=st.integers(1, 12), max_length=st.integers(5, 30))
def test_the_longer_text_is_cut_first(tokenizer, a, b, max_length):
    table = Table.of({"text": ["good " * a], "text_pair": ["bad " * b]})
    dataset = structured(tokenizer, table, max_length=max_length, **TOKENS)
    (row,) = rows_of(dataset)
    kept_a, kept_b = row.count(5), row.count(6)
    assert row == [100, *[5] * kept_a, 101, *[6] * kept_b, 102]
    assert len(row) == min(max_length, a + b + 3)
    assert dataset.truncated == (a + b + 3 > max_length)
    # A text is cut only down to the other's length.
    assert kept_a == a or kept_a >= kept_b
    assert kept_b == b or kept_b >= kept_a - 1


def test_both_orders_stand_side_by_side(tokenizer):
    table = both_orders(Table.of({"text": ["a", "film"], "text_pair": ["good", "bad"], "label": ["x", "y"]}))
    assert rows_of(structured(tokenizer, table, max_length=8, **TOKENS)) == [
        [100, 4, 101, 5, 102],
        [100, 5, 101, 4, 102],
        [100, 7, 101, 6, 102],
        [100, 6, 101, 7, 102],
    ]
    assert table["label"] == ("x", "x", "y", "y")
    with pytest.raises(InputError, match="no column 'text_pair'"):
        both_orders(Table.of({"text": ["a"]}))


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        ({"text": ["a"]}, {"max_length": 2}, "max_length must be a whole number from 3 up"),
        ({"text": ["a"], "text_pair": ["b"]}, {"max_length": 4}, "max_length must be a whole number from 5 up"),
        ({"text": ["a"]}, {"extract": 100}, "must be three ids, got 100, 101 and 100"),
        ({"text": ["a", " "]}, {}, "'text' is empty in row 2"),
        ({"text": ["a"], "text_pair": [""]}, {}, "'text_pair' is empty in row 1"),
        ({"text": ["a"]}, {"labels": [1, 2]}, "expected 1 numeric labels"),
    ],
)
def test_what_cannot_be_is_refused(tokenizer, columns, changes, message):
    with pytest.raises(InputError, match=message):
        structured(tokenizer, Table.of(columns), **({"max_length": 8} | TOKENS | changes))
