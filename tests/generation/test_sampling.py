"""How tokens are drawn: what is ruled out, and how often the rest is drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.generation import filtered, sample

LOGITS = jnp.log(jnp.array([0.4, 0.3, 0.2, 0.1]))


def kept(**options) -> list[int]:
    return np.flatnonzero(np.isfinite(filtered(LOGITS, **options))).tolist()


@pytest.mark.parametrize(("k", "expected"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_top_k_keeps_the_likeliest(k, expected):
    assert kept(top_k=k) == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.01, [0]), (0.39, [0]), (0.41, [0, 1]), (0.69, [0, 1]), (0.71, [0, 1, 2]), (1.0, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_that_reach_it(p, expected):
    assert kept(top_p=p) == expected


def test_top_p_counts_what_top_k_left():
    assert kept(top_k=2, top_p=0.5) == [0], "of the two likeliest the first has 4/7"
    assert kept(top_k=2, top_p=0.6) == [0, 1]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=12), st.integers(1, 12), st.floats(0.05, 1.0))
def test_the_likeliest_always_stays_and_order_does_not_matter(values, k, p):
    logits = np.float32(values)
    found = np.asarray(filtered(jnp.asarray(logits), top_k=k, top_p=p))
    assert np.isfinite(found[logits == logits.max()]).all()
    order = np.random.default_rng(0).permutation(len(values))
    np.testing.assert_array_equal(filtered(jnp.asarray(logits[order]), top_k=k, top_p=p), found[order])


def test_tokens_are_drawn_as_often_as_they_are_likely():
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.vmap(lambda key, t: sample(key, LOGITS, temperature=t), in_axes=(0, None))
    for temperature in (1.0, 0.5):
        share = np.bincount(draw(keys, temperature), minlength=4) / 4000
        expected = jax.nn.softmax(LOGITS / temperature)
        np.testing.assert_allclose(share, expected, atol=0.03)


def test_a_row_has_its_own_draw_and_its_own_filter():
    logits = jnp.stack([LOGITS, LOGITS[::-1]])
    drawn = jax.vmap(lambda key: sample(key, logits, top_k=1))(jax.random.split(jax.random.key(1), 8))
    assert (np.asarray(drawn) == [0, 3]).all()
