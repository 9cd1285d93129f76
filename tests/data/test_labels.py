"""Labels become ids in one order everywhere, and an unknown one is named."""

from __future__ import annotations

import numpy as np
import pytest

from jaxft import InputError
from jaxft.data import Table, Vocabulary, float_labels, vocabulary


def table(*labels, source="train.csv"):
    return Table.of({"text": ["text"] * len(labels), "label": labels}, source)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("pos", "neg", "pos"), ("neg", "pos")),
        (("10", "9", "-1"), ("-1", "9", "10")),
        ((2, 10, 1), ("1", "2", "10")),
        ((1.0, 0.0), ("0", "1")),
        (("1.0", 1, "0"), ("0", "1")),
        ((0.5, "0.25"), ("0.25", "0.5")),
        (("10", "9", "x"), ("10", "9", "x")),
        (("007", "7"), ("007", "7")),
        ((np.int64(3), np.float32(2.0)), ("2", "3")),
        ((" yes ", "NA"), ("NA", "yes")),
    ],
)
def test_names_are_sorted_and_numbers_by_value(labels, names):
    known = vocabulary(table(*labels))
    assert known.names == names
    ids = known.ids(table(*labels))
    assert ids.dtype == np.int32
    assert sorted(set(ids.tolist())) == list(range(len(names)))


def test_ids_do_not_depend_on_the_order_of_the_rows():
    assert vocabulary(table("b", "a", "c")) == vocabulary(table("c", "b", "a", "a"))


def test_an_unseen_label_is_named_with_its_row_and_the_known_ones():
    known = Vocabulary(("negative", "positive"))
    message = r"'positiv' in row 2 of eval\.csv was not seen in training; the known labels are negative, positive"
    with pytest.raises(InputError, match=message):
        known.ids(table("negative", "positiv", source="eval.csv"))


@pytest.mark.parametrize("label", [None, "", float("nan"), "nan", np.float32("nan")])
def test_a_missing_label_is_named_with_its_row(label):
    with pytest.raises(InputError, match="'label' is missing in row 2"):
        vocabulary(table("a", label))
    with pytest.raises(InputError, match="'label' is missing in row 2"):
        float_labels(table(1, label))


def test_one_label_is_not_enough():
    with pytest.raises(InputError, match=r"every row of train\.csv has the label 'a'"):
        vocabulary(table("a", "a"))


def test_float_labels():
    values = float_labels(table("1.5", 2, "-3e-1"))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.float32([1.5, 2, -0.3]))


@pytest.mark.parametrize("label", ["good", "inf", float("-inf"), "1,5"])
def test_a_regression_label_is_a_finite_number(label):
    with pytest.raises(InputError, match="finite numbers as labels, but row 2"):
        float_labels(table(1, label))
