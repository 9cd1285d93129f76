"""The pictures of a study: what is written in them, bytes that repeat, room for any name and number of groups."""

from __future__ import annotations

import html
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import jaxft as ft
from jaxft.study.compare import compare
from jaxft.study.curves import cost_front, data_efficiency, learning_curves
from jaxft.study.drawing import COLOURS, short_number, spread, wrapped
from jaxft.study.figures import comparison_picture, data_efficiency_picture, front_picture, learning_curves_picture
from tests.study.made_up import row, study, table

METHODS = {
    "full": 0.91,
    "lora": 0.905,
    "bitfit with a head, $norm_scales$ & a rather long name": 0.88,
    "head": 0.8,
}
ROWS = study(METHODS, counts=(10, 1000))
LAST = [made for made in ROWS if made["config"]["labelled"] == 1000]


@pytest.fixture(scope="module")
def drawings():
    return {
        "comparison": (comparison_picture, compare(LAST)),
        "data efficiency": (data_efficiency_picture, data_efficiency(ROWS, axis="labelled")),
        "learning curves": (learning_curves_picture, learning_curves(LAST)),
        "front": (front_picture, cost_front(LAST)),
    }


KINDS = ("comparison", "data efficiency", "learning curves", "front")


@pytest.mark.parametrize("kind", KINDS)
def test_an_svg_is_sound_and_its_bytes_repeat_whatever_the_users_style(drawings, kind):
    draw, content = drawings[kind]
    picture = draw(content)
    ElementTree.fromstring(picture)
    assert not re.search(rb"<dc:date>|Matplotlib v", picture)
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        assert draw(content) == picture


@pytest.mark.parametrize("kind", KINDS)
def test_a_png_is_no_empty_page_and_nothing_touches_its_border(drawings, kind):
    draw, content = drawings[kind]
    picture = draw(content, format="png")
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    assert (pixels < 128).sum() > 1000
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert border.min() == 255


@pytest.mark.parametrize("kind", KINDS)
def test_every_group_is_named_in_the_picture(drawings, kind):
    draw, content = drawings[kind]
    said = _texts(draw(content))
    for method in METHODS:
        assert method in said


def test_the_pictures_name_their_axes(drawings):
    for kind, names in {
        "comparison": ["accuracy, test data (larger is better)"],
        "data efficiency": ["labelled", "accuracy", "10", "1k"],
        "learning curves": ["step", "loss"],
        "front": ["trained parameters", "accuracy"],
    }.items():
        draw, content = drawings[kind]
        said = _texts(draw(content))
        assert [name for name in names if name not in said] == []


def test_only_what_is_best_or_equal_is_coloured():
    rows = table({"good": [0.9, 0.91, 0.92], "bad": [0.5, 0.52, 0.51]})
    both = comparison_picture(compare(rows)).decode()
    # Three seeds and the mean of the best; of the rest, whose grey the ticks share, the white mean.
    assert len(re.findall(f"<use [^>]*fill: {COLOURS[0]}", both)) == 3 + 1
    assert len(re.findall("<use [^>]*fill: #ffffff", both)) == 1


def test_diverged_runs_are_written_beside_their_group():
    rows = table({"wild": [0.9, None, 0.9], "tame": [0.8, 0.81, 0.82], "dead": [None] * 3})
    said = _texts(comparison_picture(compare(rows)))
    assert "1 of 3 diverged" in said
    assert "3 of 3 diverged" in said


@pytest.mark.parametrize("count", [1, 12])
def test_one_group_and_a_dozen_fit(count):
    rows = study({f"method {place}": 0.8 + place / 100 for place in range(count)}, seeds=2)
    for picture in (
        comparison_picture(compare(rows), format="png"),
        front_picture(cost_front(rows, cost="seconds"), format="png"),
        learning_curves_picture(learning_curves(rows), format="png"),
    ):
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
        assert np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).min() == 255


def test_what_cannot_be_drawn_is_refused(drawings):
    dead = [row(None, method="dead", seed=seed) | {"cost": {"seconds": 1.0}} for seed in range(2)]
    for call in (lambda: comparison_picture(compare(dead)), lambda: front_picture(cost_front(dead, cost="seconds"))):
        with pytest.raises(ft.InputError, match="every run diverged"):
            call()
    with pytest.raises(ft.InputError, match="no point to draw"):
        data_efficiency_picture(data_efficiency([row(None, method="m", labelled=9, seed=0)], axis="labelled"))
    draw, content = drawings["comparison"]
    with pytest.raises(ft.InputError, match="'pdf' was asked for"):
        draw(content, format="pdf")


@given(st.lists(st.floats(0, 100), max_size=8), st.floats(0.5, 12))
def test_spread_keeps_order_gap_and_bounds(places, gap):
    moved = spread(places, gap, 0.0, 100.0)
    ordered = [place for _, place in sorted(zip(places, moved, strict=True))]
    assert all(right - left >= gap - 1e-6 for left, right in itertools.pairwise(ordered))
    assert all(-1e-6 <= place <= 100 + 1e-6 for place in moved)


@settings(max_examples=50)
@given(st.floats(1e-9, 1e14))
def test_short_numbers_are_short_and_near(value):
    text = short_number(value)
    factor = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(text[-1], 1.0)
    assert float(text.rstrip("kMGT")) * factor == pytest.approx(value, rel=1e-3)
    assert len(text) <= 9


def test_a_name_without_letters_is_a_dash():
    assert (wrapped(" "), wrapped("a b", 1)) == ("–", "a\nb")


def _texts(picture: bytes) -> str:
    """What the picture says: drawn letters carry their text as a comment."""
    said = " ".join(re.findall(r"<!--(.*?)-->", picture.decode()))
    return html.unescape(re.sub(r"\s+", " ", said))
