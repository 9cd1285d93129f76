"""Every row once an epoch, whatever the sizes; the order a function of seed and step; masks exact."""

from __future__ import annotations

import itertools
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft import InputError
from jaxft.data import Dataset, Ragged, arrays, batches, eval_batches, views


def tokens(lengths, max_length=None):
    """A dataset whose row i is i + 1, lengths[i] times, with label i + 1."""
    lengths = np.array(lengths)
    rows = np.arange(1, len(lengths) + 1, dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    columns = {"input_ids": Ragged(np.repeat(rows, lengths), offsets), "labels": rows}
    return Dataset(MappingProxyType(columns), max_length or int(lengths.max()))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


SETTINGS = {
    "row_lengths": st.lists(st.integers(1, 16), min_size=1, max_size=60),
    "batch_size": st.integers(1, 9),
    "buckets": st.none() | st.lists(st.integers(1, 15), max_size=3),
    "seed": st.integers(0, 2**64 - 1),
    "epoch": st.integers(0, 3),
}


@settings(deadline=None)
@given(**SETTINGS)
def test_every_row_is_seen_once_an_epoch(row_lengths, batch_size, buckets, seed, epoch):
    lengths = None if buckets is None else [*buckets, 16]
    stream = batches(tokens(row_lengths), batch_size=batch_size, seed=seed, lengths=lengths)
    seen = []
    partial = 0
    for batch in stream.epoch(epoch):
        mask = batch["mask"]
        length = batch["input_ids"].shape[1]
        assert mask.shape == (batch_size,)
        assert mask.dtype == bool
        assert batch["input_ids"].shape == batch["attention_mask"].shape == (batch_size, length)
        assert length in (lengths or [max(row_lengths)])
        assert mask[0]
        partial += not mask.all()
        seen += batch["labels"][mask].tolist()
        # Padding rows are valid rows of tokens with label 0.
        assert (batch["attention_mask"].sum(1) > 0).all()
        assert (batch["labels"][~mask] == 0).all()
        for row in np.flatnonzero(mask):
            label = batch["labels"][row]
            want = [label] * row_lengths[label - 1] + [0] * (length - row_lengths[label - 1])
            assert batch["input_ids"][row].tolist() == want
            assert batch["attention_mask"][row].tolist() == [int(token > 0) for token in want]
    assert sorted(seen) == list(range(1, len(row_lengths) + 1))
    assert partial <= 1
    assert stream.steps_per_epoch == -(-len(row_lengths) // batch_size)


@settings(deadline=None)
@given(**SETTINGS)
def test_a_batch_depends_on_its_step_alone(row_lengths, batch_size, buckets, seed, epoch):
    lengths = None if buckets is None else [*buckets, 16]
    stream, fresh = (batches(tokens(row_lengths), batch_size=batch_size, seed=seed, lengths=lengths) for _ in range(2))
    steps = (epoch + 1) * stream.steps_per_epoch
    in_order = list(itertools.islice(stream, steps))
    for step in reversed(range(steps)):
        assert_same(stream[step], in_order[step])
    assert_same(fresh[steps - 1], in_order[-1])


def test_a_row_goes_to_the_smallest_bucket_that_holds_it():
    stream = batches(tokens([3, 4, 5, 8, 9, 16] * 4), batch_size=4, seed=0, lengths=(8, 4, 16))
    assert stream.lengths == (4, 8, 16)
    for batch in stream.epoch():
        smallest = min(length for length in stream.lengths if length >= batch["attention_mask"].sum(1).max())
        assert batch["input_ids"].shape[1] == smallest
    assert sorted(batch["input_ids"].shape[1] for batch in stream.epoch()) == [4, 4, 8, 8, 16, 16]


def test_epochs_and_seeds_differ_and_batches_of_one_length_do_not_cluster():
    data = tokens([2, 9] * 64)
    stream = batches(data, batch_size=8, seed=0, lengths=(4, 16))
    order = [[row for batch in stream.epoch(number) for row in batch["labels"]] for number in range(2)]
    other = [row for batch in batches(data, batch_size=8, seed=1, lengths=(4, 16)).epoch() for row in batch["labels"]]
    assert order[0] != order[1]
    assert order[0] != other
    shapes = [batch["input_ids"].shape[1] for batch in stream.epoch()]
    assert shapes != sorted(shapes)


def test_the_order_is_pinned():
    stream = batches(arrays({"labels": np.arange(6)}), batch_size=3, seed=7)
    assert [stream[step]["labels"].tolist() for step in range(4)] == [[4, 1, 3], [2, 5, 0], [3, 1, 2], [5, 4, 0]]


@settings(deadline=None)
@given(rows=st.integers(1, 40), batch_size=st.integers(1, 9))
def test_evaluation_is_in_order_with_exact_masks(rows, batch_size):
    found = eval_batches(arrays({"x": np.arange(rows), "labels": np.ones(rows)}), batch_size=batch_size)
    assert len(found) == len(list(found)) == -(-rows // batch_size)
    assert np.concatenate([batch["x"][batch["mask"]] for batch in found]).tolist() == list(range(rows))
    assert sum(batch["labels"].sum() for batch in found) == rows
    assert all(batch["x"].shape == (batch_size,) for batch in found)
    assert_same(found[len(found) - 1], list(found)[-1])
    with pytest.raises(IndexError):
        found[len(found)]


def test_evaluation_batches_take_the_bucket_of_their_longest_row():
    found = eval_batches(tokens([2, 3, 9, 1, 4, 4]), batch_size=2, lengths=(4, 16))
    assert [batch["input_ids"].shape[1] for batch in found] == [4, 16, 4]
    assert np.concatenate([batch["labels"] for batch in found]).tolist() == [1, 2, 3, 4, 5, 6]


def test_any_arrays_make_batches():
    images = np.random.default_rng(0).normal(size=(10, 8, 8, 1))
    batch = batches(arrays({"image": images, "labels": np.arange(10)}), batch_size=4, seed=0)[0]
    assert batch["image"].shape == (4, 8, 8, 1)
    np.testing.assert_array_equal(batch["image"], images[batch["labels"]].astype(np.float32))
    assert {name: array.dtype.name for name, array in batch.items()} == {
        "image": "float32",
        "labels": "int32",
        "mask": "bool",
    }


def test_a_batch_can_be_written_to_without_changing_the_data():
    data = arrays({"labels": np.arange(4)})
    batch = batches(data, batch_size=4, seed=0)[0]
    batch["labels"][:] = 9
    assert data.columns["labels"].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        data.columns["labels"][0] = 9


def test_views_run_side_by_side_and_the_shorter_repeats_reshuffled():
    source = batches(arrays({"x": np.arange(4), "labels": np.arange(4)}), batch_size=2, seed=0)
    target = batches(arrays({"x": np.arange(10)}), batch_size=2, seed=1)
    both = views(source=source, target=target)
    assert both.steps_per_epoch == 5
    for step, batch in enumerate(itertools.islice(both, 12)):
        assert_same(batch["source"], source[step])
        assert_same(batch["target"], target[step])
        assert "labels" not in batch["target"]
    with pytest.raises(InputError, match="at least one view"):
        views()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number from 1 up, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number from 1 up, got 2.5"),
        ({"seed": -1}, "the seed must be an integer from 0"),
        ({"seed": 1.5}, "the seed must be an integer from 0 .*, got 1.5"),
        ({"lengths": (2, 4)}, "longest row has 9 tokens but the largest of lengths is 4"),
        ({"lengths": (0, 16)}, "a length must be a whole number from 1 up, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    settings = {"batch_size": 2, "seed": 0, "lengths": None} | changes
    with pytest.raises(InputError, match=message):
        batches(tokens([1, 9]), **settings)


def test_a_step_is_counted_from_zero():
    with pytest.raises(IndexError, match="counted from 0"):
        batches(tokens([1, 9]), batch_size=1, seed=0)[-1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "at least one row"),
        ({"x": np.ones((0, 2))}, "at least one row"),
        ({"x": np.ones(3), "labels": np.ones(2)}, "one length"),
        ({"x": np.array(["a"])}, "must be an array of numbers"),
        ({"x": np.ones(())}, "must be an array of numbers"),
        ({"mask": np.ones(3)}, "cannot be named 'mask'"),
        ({"labels": np.array([0.0, np.nan])}, "'labels' is NaN in row 2"),
        ({"x": np.array([2**40])}, "integers beyond 32 bits"),
    ],
)
def test_arrays_that_cannot_be_a_dataset_are_refused(columns, message):
    with pytest.raises(InputError, match=message):
        arrays(columns)


def test_lengths_are_for_tokens_only():
    with pytest.raises(InputError, match="only arrays of fixed shape"):
        eval_batches(arrays({"x": np.ones(3)}), batch_size=2, lengths=(4,))
