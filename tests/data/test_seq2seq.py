"""Targets are shifted right, ended and padded to a length of their own."""

from __future__ import annotations

import numpy as np
import pytest

from jaxft import InputError
from jaxft.data import Table, batches, eval_batches, seq2seq

TEXTS = ["A quick brown fox jumps.", "Hello", "She reads a book about unaffable people."]
TARGETS = ["fox", "a greeting", "reading"]
CLS, SEP = 101, 102


def table(texts=TEXTS, targets=TARGETS):
    return Table.of({"text": texts, "target": targets})


def make(tokenizer, rows=None, **changes):
    settings = {"max_length": 16, "max_target_length": 6, "start_token": CLS} | changes
    return seq2seq(tokenizer, rows or table(), **settings)


def test_inputs_of_the_decoder_are_labels_shifted_right(minilm_tokenizer):
    dataset = make(minilm_tokenizer)
    (batch,) = eval_batches(dataset, batch_size=3, lengths=(12, 16))
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 12)
    assert batch["labels"].shape == batch["decoder_input_ids"].shape == batch["decoder_attention_mask"].shape == (3, 6)
    want = minilm_tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="np")
    np.testing.assert_array_equal(batch["input_ids"], want["input_ids"])
    assert "token_type_ids" not in batch
    for row, target in enumerate(TARGETS):
        counted = batch["decoder_attention_mask"][row] == 1
        np.testing.assert_array_equal(batch["labels"][row] != -100, counted)
        labels = batch["labels"][row][counted]
        assert minilm_tokenizer.decode(labels) == f"{target} [SEP]"
        np.testing.assert_array_equal(batch["decoder_input_ids"][row][counted], [CLS, *labels[:-1]])
        assert (batch["decoder_input_ids"][row][~counted] == 0).all()


def test_targets_are_cut_before_their_end(minilm_tokenizer):
    dataset = make(minilm_tokenizer, table(["a", "b"], ["one two three four five", "one two"]), max_target_length=3)
    rows = dataset.rows(np.arange(2))
    assert rows["labels"][:, 2].tolist() == [SEP, SEP]
    assert minilm_tokenizer.decode(rows["labels"][0]) == "one two [SEP]"
    assert dataset.truncated == 1
    assert make(minilm_tokenizer, max_length=7).truncated == 2


def test_ends_can_be_named(minilm_tokenizer):
    dataset = make(minilm_tokenizer, start_token=0, end_token=103)
    rows = dataset.rows(np.arange(1))
    assert rows["decoder_input_ids"][0, 0] == 0
    assert rows["labels"][0, 1] == 103


def test_rows_that_fill_a_batch_do_not_count(minilm_tokenizer):
    batch = batches(make(minilm_tokenizer), batch_size=4, seed=1)[0]
    assert (batch["labels"][~batch["mask"]] == -100).all()


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (table(targets=["a", " ", "c"]), {}, "is empty in row 2"),
        (table(targets=["a", "\u200b", "c"]), {}, "no token in the target of row 2"),
        (table(texts=["a", "", "c"]), {}, "'text' is empty in row 2"),
        (table().drop("target"), {}, "no column 'target'"),
        (table(), {"max_target_length": 1}, "max_target_length must be a whole number from 2 up"),
        (table(), {"start_token": 30522}, "a token is an id from 0 to 30521 here, got 30522"),
        (table(), {"end_token": "[SEP]"}, "a token is an id from 0 to 30521 here, got '.SEP.'"),
    ],
)
def test_what_cannot_be_is_refused(minilm_tokenizer, rows, changes, message):
    with pytest.raises(InputError, match=message):
        make(minilm_tokenizer, rows, **changes)
