"""Selectors: what patterns match, how they combine, and what they say when they match nothing."""

from __future__ import annotations

import re
from typing import Any

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxft as ft
from jaxft.trees import first_match, leaf_paths, select

PARAMS: dict[str, Any] = {
    "embeddings": {"word": {"embedding": 0}},
    "encoder": {
        f"layer_{i}": {
            "attention": {name: {"kernel": i, "bias": i} for name in ("query", "key", "value")},
            "norm": {"scale": i},
        }
        for i in range(12)
    },
    "stack": [{"w": 1}, ({"w": 2},)],
    "head": {"kernel": 1, "bias": 1},
}


def chosen(selector: Any) -> list[str]:
    return [path for path, take in leaf_paths(select(selector, PARAMS)).items() if take]


@pytest.mark.parametrize(
    ("pattern", "count", "example"),
    [
        ("**", len(leaf_paths(PARAMS)), "stack/1/0/w"),
        ("head/*", 2, "head/bias"),
        ("head/**", 2, "head/kernel"),
        ("**/kernel", 37, "head/kernel"),
        ("*/kernel", 1, "head/kernel"),
        ("encoder/layer_?/norm/scale", 10, "encoder/layer_3/norm/scale"),
        ("encoder/layer_{10,11}/**", 14, "encoder/layer_11/norm/scale"),
        ("**/attention/{query,value}/{kernel,bias}", 48, "encoder/layer_0/attention/value/bias"),
        ("{head,encoder/**/query}/kernel", 13, "encoder/layer_7/attention/query/kernel"),
        ("encoder/**/norm/**", 12, "encoder/layer_0/norm/scale"),
        ("stack/**/w", 2, "stack/1/0/w"),
        ("encoder/layer_1*/norm/scale", 3, "encoder/layer_11/norm/scale"),
        ("**/{layer_0,layer_{1,2}}/norm/scale", 3, "encoder/layer_2/norm/scale"),
    ],
)
def test_patterns(pattern: str, count: int, example: str) -> None:
    found = chosen(pattern)
    assert len(found) == count
    assert example in found


def test_dots_and_brackets_stand_for_themselves() -> None:
    mask = ft.glob("a.b/[c]")({"a.b": {"[c]": 1, "c": 2}, "axb": {"c": 3}})
    assert mask == {"a.b": {"[c]": True, "c": False}, "axb": {"c": False}}


def test_combinations() -> None:
    kernels, head = ft.glob("**/kernel"), ft.glob("head/**")
    assert chosen(kernels & head) == ["head/kernel"]
    assert set(chosen(kernels | head)) == {*chosen(kernels), *chosen(head)}
    assert set(chosen(~kernels)) == set(leaf_paths(PARAMS)) - set(chosen(kernels))
    assert chosen(kernels & ~head & "**/query/*") == chosen("**/query/kernel")
    assert set(chosen(["head/bias", "stack/0/w"])) == {"head/bias", "stack/0/w"}
    assert repr(kernels & ~head) == "(glob('**/kernel') & ~glob('head/**'))"


def test_a_function_is_a_selector() -> None:
    odd = ft.glob("**") & (lambda params: jax.tree.map(lambda leaf: leaf % 2 == 1, params))
    assert "encoder/layer_3/norm/scale" in chosen(odd)
    assert "encoder/layer_2/norm/scale" not in chosen(odd)


def test_matching_nothing_names_the_pattern_and_the_nearest_paths() -> None:
    with pytest.raises(
        ft.InputError, match=re.escape("'head/kernal' matches none of the 89 leaves; nearest: head/kernel")
    ):
        chosen("head/kernal")


@pytest.mark.parametrize(
    "selector", [ft.glob("head/**", "**/kernal"), ft.glob("head/**") | "x/*", ~ft.glob("nowhere"), "**/{query,valeu}/*"]
)
def test_every_pattern_must_match(selector: Any) -> None:
    with pytest.raises(ft.InputError, match="matches none"):
        chosen(selector)


def test_an_empty_choice_raises() -> None:
    with pytest.raises(ft.InputError, match=r"\(glob\('head/\*\*'\) & glob\('stack/\*\*'\)\) selects none"):
        chosen(ft.glob("head/**") & ft.glob("stack/**"))


@pytest.mark.parametrize(
    ("pattern", "reason"), [("", "empty"), ("a/{b", "braces"), ("a}/b", "braces"), ("a**/b", "stand alone")]
)
def test_malformed_patterns(pattern: str, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        ft.glob(pattern)


def test_no_pattern_raises() -> None:
    with pytest.raises(ft.InputError, match="at least one"):
        ft.glob()
    with pytest.raises(ft.InputError, match=r"but got \['head/\*'\]"):
        ft.glob(["head/*"])


def test_two_stars_select_a_tree_of_one_leaf() -> None:
    assert ft.glob("**")(3.0) is True


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (lambda params: True, "structure of the params"),
        (lambda params: jax.tree.map(lambda _: 1, params), "must return bools"),
        (lambda params: jax.tree.map(lambda _: False, params), "selects none"),
    ],
)
def test_masks_are_checked(mask: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        chosen(mask)
    with pytest.raises(ft.InputError, match=reason):
        chosen(ft.glob("**") & mask)


KEYS = st.text("abcXYZ_.0123456789", min_size=1, max_size=6)


@given(st.lists(KEYS, min_size=1, max_size=4), st.data())
def test_a_path_with_any_key_starred_still_matches(keys: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(keys) - 1))
    path = "/".join(keys)
    starred = "/".join("*" if i == index else key for i, key in enumerate(keys))
    assert first_match([starred], path) == starred
    assert first_match(["/".join(["**", *keys[index:]])], path)
    assert first_match(["/".join([*keys[:index], "**"])], path)
    assert not first_match([f"{path}/more"], path)


def test_strings_combine_from_either_side() -> None:
    assert chosen("head/*" & ft.glob("**/bias")) == ["head/bias"]
    assert set(chosen("stack/**" | ft.glob("head/**"))) == {"stack/0/w", "stack/1/0/w", "head/bias", "head/kernel"}
