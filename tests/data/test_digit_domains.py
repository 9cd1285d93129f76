"""Written digits in two hands."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

import jaxft as ft


def test_the_shift_hides_the_labels_of_the_target():
    shift = ft.data.digits(source="mnist", target="optdigits")
    assert sorted(shift.source.train) == ["labels", "pixels"]
    assert sorted(shift.target.train) == ["pixels"]
    assert [len(part["pixels"]) for domain in shift for part in domain] == [4000, 1000, 1442, 355]
    for domain in shift:
        for part in domain:
            assert part["pixels"].shape[1:] == (16, 16, 1)
            assert part["pixels"].dtype == np.float32
            assert 0 <= part["pixels"].min() < part["pixels"].max() <= 1
        assert (np.bincount(domain.test["labels"]) > 25).all()


def test_no_picture_is_on_both_sides_and_none_is_lost():
    split = ft.data.mnist()
    together = np.concatenate([split.train.images, split.test.images]).reshape(5000, -1)
    assert len(np.unique(together, axis=0)) == 5000
    assert np.bincount(np.concatenate([split.train.labels, split.test.labels])).tolist() == [500] * 10
    assert np.bincount(split.test.labels).tolist() == [100] * 10


def test_unknown_domains_and_sizes_are_refused():
    with pytest.raises(ft.InputError, match=r"there is no domain 'usps'"):
        ft.data.digits(source="usps", target="mnist")
    with pytest.raises(ft.InputError, match="size is a whole number of pixels from 1 up, but is 0"):
        ft.data.digits(source="mnist", target="mnist", size=0)


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mnist_5k.csv.gz").write_bytes(gzip.compress(b"1,2\n")[:-3])
    monkeypatch.setitem(ft.data.mnist.__globals__, "fetch", lambda name: tmp_path)
    with pytest.raises(ft.InputError, match="is damaged"):
        ft.data.mnist()
