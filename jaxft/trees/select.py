"""Selectors: sentences about paths that give a mask over params."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax

from jaxft.errors import InputError, nearest
from jaxft.trees.paths import is_array, leaf_paths, map_with_path
from jaxft.types import Choice, Mask, Params, Selector


class Selection:
    """A selector that combines: ``a | b`` either, ``a & b`` both, ``~a`` all others.

    Called on params it returns a mask: the same tree with a bool at every leaf. Each pattern in it must
    match on its own, and so must the whole, so that a misspelt name never passes in silence.
    """

    def __init__(self, mask: Callable[[Params], Mask], description: str):
        self._mask = mask
        self._description = description

    def __call__(self, params: Params) -> Mask:
        mask = self._mask(params)
        if not any(jax.tree.leaves(mask)):
            raise InputError(f"the selector {self._description} selects none of the {_count(params)} leaves")
        return mask

    def __or__(self, other: Choice) -> Selection:
        return _both(self, other, "|", lambda a, b: a or b)

    def __and__(self, other: Choice) -> Selection:
        return _both(self, other, "&", lambda a, b: a and b)

    def __ror__(self, other: Choice) -> Selection:
        return self | other

    def __rand__(self, other: Choice) -> Selection:
        return self & other

    def __invert__(self) -> Selection:
        return Selection(lambda params: jax.tree.map(lambda a: not a, self._mask(params)), f"~{self._description}")

    def __repr__(self) -> str:
        return self._description


def _both(first: Selection, second: Choice, sign: str, rule: Callable[[bool, bool], bool]) -> Selection:
    other = as_selector(second)
    other_mask = other._mask if isinstance(other, Selection) else functools.partial(select, other)
    return Selection(
        lambda params: jax.tree.map(rule, first._mask(params), other_mask(params)),
        f"({first!r} {sign} {other!r})",
    )


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compiles a glob over paths.

    ``*`` stands for any characters within one key, ``?`` for one, ``**`` for any number of whole keys,
    ``{a,b}`` for either word (braces nest, words may hold wildcards).

    Raises:
        InputError: the pattern is empty, its braces do not pair, or ``**`` is not a whole key.

    Example:
        >>> bool(pattern_regex("**/{query,value}/kernel").fullmatch("encoder/layer_0/attention/query/kernel"))
        True
    """
    if not pattern:
        raise InputError("a pattern must not be empty; '**' selects every leaf")
    return re.compile("|".join(f"(?:{_plain_regex(plain)})" for plain in _without_braces(pattern)))


def _without_braces(pattern: str) -> list[str]:
    """Writes the outermost first pair of braces out, and so on until there is none."""
    opening = pattern.find("{")
    before = pattern if opening < 0 else pattern[:opening]
    if before == pattern and "}" not in pattern:
        return [pattern]
    depth, words = 0, [""]
    for index, letter in enumerate("" if "}" in before else pattern[opening:], opening):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            tails = _without_braces(pattern[index + 1 :])
            heads = [pattern[:opening] + word for outer in words for word in _without_braces(outer)]
            return [head + tail for head in heads for tail in tails]
        if letter == "," and depth == 1:
            words.append("")
        elif index > opening:
            words[-1] += letter
    raise InputError(f"the braces of the pattern {pattern!r} do not pair; write '{{a,b}}' for either word")


def _plain_regex(pattern: str) -> str:
    keys = pattern.split("/")
    if keys == ["**"]:
        return ".*"
    regex = ""
    for key in keys[:-1]:
        regex += "(?:[^/]+/)*" if key == "**" else f"{_key_regex(key, pattern)}/"
    return regex + (".*" if keys[-1] == "**" else _key_regex(keys[-1], pattern))


def _key_regex(key: str, pattern: str) -> str:
    if "**" in key:
        raise InputError(f"'**' must stand alone between slashes, but the pattern {pattern!r} has {key!r}")
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(letter) or re.escape(letter) for letter in key)


def first_match(patterns: Iterable[str], path: str) -> str | None:
    """Returns the first of the patterns that matches the path, or None."""
    return next((pattern for pattern in patterns if pattern_regex(pattern).fullmatch(path)), None)


def glob(*patterns: str) -> Selection:
    """Selects the leaves whose path matches one of the patterns.

    ``*`` and ``?`` stay within one key, ``**`` spans any number of keys, ``{a,b}`` means either, and each must match.

    Args:
        *patterns: globs over paths, such as ``"**/attention/{query,value}/kernel"``.

    Raises:
        InputError: when called on params in which a pattern matches no leaf; the nearest paths are named.

    Example:
        >>> params = {"encoder": {"kernel": 1, "bias": 2}, "head": {"kernel": 3}}
        >>> glob("**/kernel")(params)
        {'encoder': {'bias': False, 'kernel': True}, 'head': {'kernel': True}}
        >>> (glob("**/kernel") & ~glob("head/**"))(params)
        {'encoder': {'bias': False, 'kernel': True}, 'head': {'kernel': False}}
    """
    if not patterns:
        raise InputError("glob expects at least one pattern; '**' selects every leaf")
    if wrong := [pattern for pattern in patterns if not isinstance(pattern, str)]:
        raise InputError(f"glob expects patterns such as 'head/**', but got {wrong[0]!r}")
    compiled = [(plain, pattern_regex(plain)) for pattern in patterns for plain in _without_braces(pattern)]

    def mask(params: Params) -> Mask:
        paths = leaf_paths(params, is_leaf=is_array)
        for pattern, regex in compiled:
            if not any(map(regex.fullmatch, paths)):
                raise InputError(
                    f"the pattern {pattern!r} matches none of the {len(paths)} leaves; {nearest(pattern, paths)}"
                )
        return map_with_path(
            lambda path, _: any(regex.fullmatch(path) for _, regex in compiled), params, is_leaf=is_array
        )

    return Selection(mask, "glob(" + ", ".join(map(repr, patterns)) + ")")


everything = Selection(lambda params: jax.tree.map(lambda _: True, params, is_leaf=is_array), "everything")


def _count(params: Params) -> int:
    return len(jax.tree.leaves(params, is_leaf=is_array))


def as_selector(selector: Choice) -> Selector:
    """Turns what a person may write for a selector, a glob or several, into one."""
    if isinstance(selector, str):
        return glob(selector)
    if callable(selector):
        return selector
    return glob(*selector)


def select(selector: Choice, params: Params) -> Mask:
    """Applies a selector, any callable among them, and checks that it returned a mask over the params.

    Raises:
        InputError: the mask has another structure than the params, holds something other than bools, or is False
            everywhere.
    """
    mask: Any = as_selector(selector)(params)
    structure: Any = jax.tree.structure(mask)
    if structure != jax.tree.structure(params, is_leaf=is_array):
        raise InputError(
            f"the selector {selector!r} must return a tree of bools with the structure of the params, "
            f"but returned {structure}"
        )
    for path, value in leaf_paths(mask).items():
        if not isinstance(value, bool):
            raise InputError(f"the selector {selector!r} must return bools, but returned {value!r} at {path!r}")
    if not any(jax.tree.leaves(mask)):
        raise InputError(f"the selector {selector!r} selects none of the {_count(params)} leaves")
    return mask
