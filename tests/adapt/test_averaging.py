"""Averages and task vectors: values by hand, types, and trees that do not fit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft

BASE = {"body": jnp.array([1.0, 2.0, 3.0, 4.0]), "ids": jnp.arange(3), "head": {"w": jnp.array([[0.0, 1.0]])}}


def shifted(body: list[float], head: list[list[float]]) -> Any:
    return {
        "body": BASE["body"] + jnp.array(body),
        "ids": jnp.arange(3) + 7,
        "head": {"w": BASE["head"]["w"] + jnp.array(head)},
    }


FIRST = shifted([4.0, -1.0, 0.5, 0.0], [[3.0, -2.0]])
SECOND = shifted([2.0, 3.0, -0.25, 0.1], [[-5.0, -4.0]])
WAYS = {
    "interpolate": lambda base, other: ft.interpolate(base, other, 0.5),
    "uniform_soup": lambda base, other: ft.uniform_soup([base, other]),
    "greedy_soup": lambda base, other: ft.greedy_soup([base, other], lambda params: 0.0).params,
    "task_arithmetic": lambda base, other: ft.task_arithmetic(base, [other], 0.5),
    "ties": lambda base, other: ft.ties(base, [other, other]),
    "dare": lambda base, other: ft.dare(jax.random.key(0), base, other),
}


def close(found: Any, body: list[float], head: list[list[float]]) -> None:
    np.testing.assert_allclose(found["body"], body, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["head"]["w"], head, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["ids"], BASE["ids"])


def test_interpolation_by_hand() -> None:
    close(ft.interpolate(BASE, FIRST, 0.25), [2.0, 1.75, 3.125, 4.0], [[0.75, 0.5]])
    close(ft.interpolate(BASE, FIRST, 0.0), BASE["body"], BASE["head"]["w"])
    close(jax.jit(ft.interpolate)(BASE, FIRST, 1.0), FIRST["body"], FIRST["head"]["w"])


def test_a_uniform_soup_by_hand() -> None:
    close(ft.uniform_soup([BASE, FIRST, SECOND]), [3.0, 2 + 2 / 3, 3 + 0.25 / 3, 4 + 0.1 / 3], [[-2 / 3, -1.0]])


def test_a_greedy_soup_takes_what_does_not_make_it_worse() -> None:
    trees = [{"w": jnp.float32(w)} for w in (4.0, 0.0, 3.0, 1.5)]
    seen = []

    def score(params: Any) -> float:
        seen.append(float(params["w"]))
        return -abs(float(params["w"]) - 2.0)

    soup = ft.greedy_soup(trees, score)
    # best first: 1.5, then 3.0 (mean 2.25, better), 4.0 (mean 2.83, worse), 0.0 (mean 1.5, worse)
    assert soup.members == (3, 2)
    assert soup.score == -0.25
    assert float(soup.params["w"]) == 2.25
    assert seen[4:] == pytest.approx([2.25, 8.5 / 3, 1.5])
    equal = ft.greedy_soup(trees, lambda params: 1.0)
    assert equal.members == (0, 1, 2, 3)


def test_task_arithmetic_by_hand() -> None:
    close(ft.task_arithmetic(BASE, [FIRST, SECOND], [0.5, -1.0]), [1.0, -1.5, 3.5, 3.9], [[6.5, 4.0]])
    close(ft.task_arithmetic(BASE, [FIRST, SECOND], 0.5), [4.0, 3.0, 3.125, 4.05], [[-1.0, -2.0]])
    taken_back = ft.task_arithmetic(FIRST, [BASE], 1.0)
    np.testing.assert_allclose(taken_back["body"], BASE["body"], rtol=1e-6)
    np.testing.assert_allclose(
        jax.jit(ft.task_arithmetic)(BASE, [FIRST, SECOND], jnp.array([0.5, -1.0]))["body"], [1.0, -1.5, 3.5, 3.9]
    )


def test_ties_by_hand() -> None:
    # Of six values each, half are kept: (4, 3, −2) with −1 and 0.5 trimmed, and (−5, −4, 3) with 2 and smaller trimmed.
    # Signs: body + and +, head w: 3 − 5 < 0, −2 − 4 < 0.
    close(ft.ties(BASE, [FIRST, SECOND], density=0.5), [5.0, 5.0, 3.0, 4.0], [[-5.0, -2.0]])
    close(ft.ties(BASE, [FIRST, SECOND], density=0.5, weight=2.0), [9.0, 8.0, 3.0, 4.0], [[-10.0, -5.0]])


def test_ties_leaf_by_leaf() -> None:
    # Half of each leaf: (4, −1) and 3; (2, 3) and −5. Signs: body +, + (3 − 1), head 3 − 5 < 0.
    close(ft.ties(BASE, [FIRST, SECOND], density=0.5, per_leaf=True), [4.0, 5.0, 3.0, 4.0], [[-5.0, 1.0]])


def test_one_whole_task_vector_is_kept_by_ties() -> None:
    close(jax.jit(lambda b, t: ft.ties(b, [t], density=1.0))(BASE, FIRST), FIRST["body"], FIRST["head"]["w"])


def test_dare_drops_and_rescales() -> None:
    base, tuned = {"w": jnp.ones(40_000)}, {"w": jnp.full(40_000, 3.0)}
    thinned = ft.dare(jax.random.key(0), base, tuned, rate=0.75)["w"]
    assert set(np.unique(thinned)) == {1.0, 9.0}
    assert float(jnp.mean(thinned == 9.0)) == pytest.approx(0.25, abs=0.01)
    assert float(thinned.mean()) == pytest.approx(3.0, abs=0.1)
    close(ft.dare(jax.random.key(0), BASE, FIRST, rate=0.0), FIRST["body"], FIRST["head"]["w"])
    two = {"a": jnp.zeros(64), "b": jnp.zeros(64)}
    drawn = ft.dare(jax.random.key(0), two, jax.tree.map(lambda leaf: leaf + 1, two), rate=jnp.float32(0.5))
    assert bool(jnp.any(drawn["a"] != drawn["b"]))


@pytest.mark.parametrize("way", WAYS)
def test_types_of_the_base_are_kept(way: str) -> None:
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf, BASE)
    found = WAYS[way](half, FIRST)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, half)


def test_half_precision_is_averaged_in_single() -> None:
    trees = [{"w": jnp.bfloat16(value)} for value in (256.0, 1.0, 1.0, 1.0, 1.0)]
    assert float(ft.uniform_soup(trees)["w"]) == 52.0  # adding ones to 256 in bfloat16 would give 51.2 rounded to 51.25


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"body": FIRST["body"], "ids": FIRST["ids"]}, "number 2 lacks 'head/w'"),
        ({**FIRST, "extra": jnp.ones(1)}, "the first lacks 'extra'"),
        ({**FIRST, "body": jnp.ones(5)}, r"'body' is \[4\] in the first and \[5\] in number 2"),
    ],
)
def test_trees_that_do_not_fit_are_named(way: str, other: Any, said: str) -> None:
    with pytest.raises(ft.InputError, match=said):
        WAYS[way](BASE, other)


def test_weights_in_parts_are_merged_first() -> None:
    adaptation = ft.lora("head/w", rank=1)
    bound = adaptation.bind(*adaptation.init(jax.random.key(0), BASE))
    with pytest.raises(ft.InputError, match=r"'head/w' is a LowRank weight; call jaxft\.merge first"):
        ft.uniform_soup([bound, bound])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ft.uniform_soup([]), "at least one of the models of a soup"),
        (lambda: ft.ties(BASE, []), "at least one tuned model"),
        (lambda: ft.ties(BASE, [FIRST], density=0.0), "density is 0.0"),
        (lambda: ft.dare(jax.random.key(0), BASE, FIRST, rate=1.0), "got 1.0"),
        (lambda: ft.task_arithmetic(BASE, [FIRST], [0.5, 0.5]), "each of the 1 tuned models is expected, but 2"),
    ],
)
def test_wrong_numbers_are_refused(call: Any, said: str) -> None:
    with pytest.raises(ft.InputError, match=said):
        call()
