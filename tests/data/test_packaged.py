"""The packaged data sets have the rows they say they have, and the keys that must stay together do."""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from jaxft import InputError
from jaxft.data import FASHION_CLASSES, boolq, chitchat, disflqa, fashion_mnist, vocabulary, xsum
from jaxft.data.table import check_texts


def test_boolq_is_the_published_split():
    split = boolq()
    assert (len(split.train), len(split.test)) == (9427, 3270)
    assert Counter(split.train["label"]) == {"yes": 5874, "no": 3553}
    assert Counter(split.test["label"]) == {"yes": 2033, "no": 1237}
    assert not set(split.train["text"]) & set(split.test["text"])
    assert vocabulary(split.train).names == ("no", "yes")
    for table in split:
        check_texts(table)
        assert all(" -- " in passage for passage in table["text_pair"])


def test_every_disflqa_answer_is_where_it_is_said_to_be():
    split = disflqa()
    assert (len(split.train), len(split.test)) == (600, 155)
    assert not set(split.train["context"]) & set(split.test["context"])
    for table in split:
        for row in table:
            (answer,), (start,) = row["answers"], row["answer_start"]
            assert answer.strip() == answer != ""
            assert row["context"][start : start + len(answer)] == answer
    assert any(answers == ("40 , 000",) for table in split for answers in table["answers"])


def test_xsum_has_a_summary_for_every_article():
    split = xsum()
    assert (len(split.train), len(split.test)) == (786, 213)
    assert len(set(split.train["id"]) | set(split.test["id"])) == 999
    for table in split:
        check_texts(table)
        assert all(target.strip() for target in table["target"])
        assert sum(map(len, table["text"])) > 8 * sum(map(len, table["target"]))


def test_chitchat_takes_turns():
    split = chitchat()
    assert (len(split.train), len(split.test)) == (3148, 869)
    assert not set(split.train["id"]) & set(split.test["id"])
    for table in split:
        for messages in table["messages"]:
            assert len(messages) > 1
            assert [turn["role"] for turn in messages] == [("user", "assistant")[i % 2] for i in range(len(messages))]
            assert all(turn.keys() == {"role", "content"} and turn["content"].strip() for turn in messages)


def test_the_split_is_the_same_every_time():
    assert disflqa() == disflqa()
    assert chitchat().test["id"] == chitchat().test["id"]


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of the real layout with twenty pictures each, so that the reader is tested where apt-get is not."""
    for part, first in (("train", 0), ("t10k", 100)):
        images = np.zeros((20, 28, 28), np.uint8) + np.arange(first, first + 20, dtype=np.uint8)[:, None, None]
        labels = np.arange(20, dtype=np.uint8) % 10
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">{1 + values.ndim}I", 8 << 8 | values.ndim, *values.shape)
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    monkeypatch.setattr(import_module("jaxft.data.fashion_mnist"), "fetch", lambda name: tmp_path)
    return tmp_path


def test_all_classes_of_fashion_mnist(few: Path):
    split = fashion_mnist()
    assert split.classes == FASHION_CLASSES
    assert split.train.images.shape == (20, 28, 28)
    assert (split.train.images.dtype, split.train.labels.dtype) == (np.uint8, np.int32)
    assert split.train.labels.tolist() == [*range(10)] * 2
    assert split.test.images[:, 3, 5].tolist() == [*range(100, 120)]


def test_chosen_classes_are_numbered_in_the_order_given(few: Path):
    split = fashion_mnist(["coat", "t-shirt"])
    assert split.classes == ("coat", "t-shirt")
    assert split.train.images[:, 0, 0].tolist() == [0, 4, 10, 14]
    assert split.train.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("classes", "said"), [(["coats"], "nearest: coat"), ([], "at least one"), (["bag", "bag"], "each class once")]
)
def test_classes_that_cannot_be(few: Path, classes, said):
    with pytest.raises(InputError, match=said):
        fashion_mnist(classes)


@pytest.mark.parametrize("damage", [lambda held: held[:-9], lambda held: gzip.compress(gzip.decompress(held)[:-1])])
def test_a_damaged_file_is_named(few: Path, damage):
    path = few / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz is damaged.*fetch it again"):
        fashion_mnist()


def test_the_real_fashion_mnist():
    """Only where apt-get can fetch it."""
    try:
        split = fashion_mnist(["t-shirt", "coat"])
    except InputError as error:
        pytest.skip(str(error))
    assert split.train.images.shape == (12000, 28, 28)
    assert split.test.images.shape == (2000, 28, 28)
    assert np.bincount(split.train.labels).tolist() == [6000, 6000]
    assert 50 < split.train.images.mean() < 110
