"""TensorBoard, and any object that takes figures."""

from __future__ import annotations

import sys

import pytest
from tensorboardX.proto.event_pb2 import Event

import jaxft as ft
from jaxft.study.writers import TensorBoard
from tests.study import digits


class Kept:
    def __init__(self):
        self.figures = []

    def log(self, figures):
        self.figures.append(figures)


def events(directory):
    """The scalars and texts of the one event file there: (step, name) -> value."""
    (path,) = directory.iterdir()
    data, found = path.read_bytes(), {}
    while data:  # a record is its length in 8 bytes, a checksum of 4, the event, a checksum of 4
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        for value in event.summary.value:
            text = value.tensor.string_val
            found[event.step, value.tag] = text[0].decode() if text else value.simple_value
    return found


def test_both_receive_the_curve_and_the_result_of_every_run(tmp_path):
    kept = Kept()
    with TensorBoard(tmp_path / "board") as board:
        rows = ft.run_study(
            digits.build, digits.Config(), ft.grid(seed=range(2)), directory=tmp_path / "study", writers=[board, kept]
        )
    assert {figures["run"] for figures in kept.figures} == {row["key"] for row in rows}
    for row in rows:
        found = events(tmp_path / "board" / row["key"])
        last = row["curve"][-1]
        assert found[last["step"], "loss"] == pytest.approx(last["loss"])
        assert found[last["step"], "final/accuracy"] == pytest.approx(row["metrics"]["accuracy"])
        assert found[last["step"], "config/method/text_summary"] == "full"
        assert len([name for _, name in found if name == "loss"]) == len(row["curve"])
        ours = [figures for figures in kept.figures if figures["run"] == row["key"]]
        assert ours[:-1] == [{"run": row["key"], **point} for point in row["curve"]]
        assert ours[-1]["final/accuracy"] == row["metrics"]["accuracy"]


def test_nothing_is_told_twice(tmp_path):
    first, second = Kept(), Kept()
    for kept in (first, second):
        ft.run_study(digits.build, digits.Config(), ft.grid(seed=0), directory=tmp_path, writers=[kept])
    assert first.figures != []
    assert second.figures == []


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ft.InputError, match=r"pip install 'jaxft\[tensorboard\]'"):
        TensorBoard(tmp_path)
