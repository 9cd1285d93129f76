"""Columns of different lengths: each group has its mask and is padded to its own length."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest

from jaxft import InputError
from jaxft.data import Dataset, batches, eval_batches, ragged

TARGET = "decoder_attention_mask"


def both():
    columns = {
        "input_ids": ragged([[1, 2, 3], [4]]),
        "context_mask": ragged([[0, 1, 1], [1]]),
        "decoder_input_ids": ragged([[9], [7, 8]], mask=TARGET),
        "labels": ragged([[5], [8, 6]], fill=-100, mask=TARGET),
    }
    return Dataset(MappingProxyType(columns), 4, max_target_length=3)


def test_columns_of_one_mask_share_it_and_targets_have_their_own_length():
    (batch,) = eval_batches(both(), batch_size=2, lengths=(3, 8))
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch["context_mask"].tolist() == [[0, 1, 1], [1, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["decoder_input_ids"].tolist() == [[9, 0, 0], [7, 8, 0]]
    assert batch["labels"].tolist() == [[5, -100, -100], [8, 6, -100]]
    assert batch[TARGET].tolist() == [[1, 0, 0], [1, 1, 0]]


def test_targets_do_not_choose_the_bucket():
    dataset = both()
    assert dataset.lengths.tolist() == [3, 1]
    stream = batches(dataset, batch_size=1, seed=0, lengths=(1, 3))
    assert sorted(batch["input_ids"].shape[1] for batch in stream.epoch()) == [1, 3]
    assert {batch["labels"].shape for batch in stream.epoch()} == {(1, 3)}
    assert Dataset(dataset.columns, 4).rows(np.array([1]))["labels"].tolist() == [[8, 6]]


def test_labels_of_tokens_do_not_count_in_padding_rows():
    (batch,) = eval_batches(both(), batch_size=3)
    assert batch["labels"][2].tolist() == [-100] * 3
    assert batch["attention_mask"][2].any()


def test_columns_of_one_mask_must_be_equally_long():
    with pytest.raises(InputError, match="'labels' must be as long as those of 'input_ids'"):
        Dataset({"input_ids": ragged([[1, 2]]), "labels": ragged([[1]])}, 2)


def test_a_ragged_column_without_rows_is_empty():
    assert len(ragged([])) == 0
    assert ragged([[]]).rows(np.array([0]), 2).tolist() == [[0, 0]]
