"""Objectives over tokens: values by hand, and what does not count."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.types import Context, Outputs
from tests.objectives.contexts import context

RNG = np.random.default_rng(0)
ENDS = jnp.asarray(RNG.normal(size=(3, 5, 2)), jnp.float32)
SPANS = jnp.array([[0, 2], [1, 1], [3, 4]])
TOKENS = jnp.asarray(RNG.integers(0, 7, size=(2, 6)))
NEXT = jnp.asarray(RNG.normal(size=(2, 6, 7)), jnp.float32)


def parts(objective: ft.Objective, batch: Any, outputs: Any) -> tuple[float, Any]:
    loss, (_, metrics) = objective.apply((), (), (), context(batch, outputs))
    return float(loss), metrics


def log_softmax(z: Any) -> np.ndarray:
    z = np.asarray(z, np.float64)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def span_by_hand(rows: Any, length: int = 5) -> float:
    losses = [-log_softmax(ENDS[row, :length, end])[SPANS[row, end]] for row in rows for end in (0, 1)]
    return float(np.mean(losses))


def test_spans_by_hand() -> None:
    loss, metrics = parts(ft.span_cross_entropy(), {"labels": SPANS}, ENDS)
    assert loss == pytest.approx(span_by_hand((0, 1, 2)), rel=1e-6)
    right = [bool(np.all(np.argmax(ENDS[row], axis=0) == SPANS[row])) for row in range(3)]
    assert metrics["accuracy"] == pytest.approx(np.mean(right))


def test_a_row_is_right_with_both_ends() -> None:
    ends = jax.nn.one_hot(SPANS.at[1, 1].set(2), 5, axis=1) * 9.0
    assert parts(ft.span_cross_entropy(), {"labels": SPANS}, ends)[1]["accuracy"] == pytest.approx(2 / 3)
    ignored = {"labels": SPANS.at[1].set(-100)}
    assert parts(ft.span_cross_entropy(), ignored, ends)[1]["accuracy"] == 1.0


def test_positions_outside_of_the_text_are_no_candidates() -> None:
    batch = {"labels": SPANS[:2], "attention_mask": jnp.ones((2, 5), int).at[:, 3:].set(0)}

    def loss(z: Any) -> Any:
        return ft.span_cross_entropy().apply((), (), (), context(batch, z))[0]

    found, slope = jax.value_and_grad(loss)(ENDS[:2].at[:, 3:].set(1e4))
    assert found == pytest.approx(span_by_hand((0, 1), length=3), rel=1e-6)
    np.testing.assert_array_equal(slope[:, 3:], 0)
    assert jnp.isfinite(slope).all()


def test_rows_without_an_answer_and_masked_rows_do_not_count() -> None:
    without = {"labels": SPANS.at[1].set(-100), "mask": jnp.array([True, True, False])}
    assert parts(ft.span_cross_entropy(), without, ENDS)[0] == pytest.approx(span_by_hand((0,)), rel=1e-6)


@pytest.mark.parametrize(("logits", "labels"), [(ENDS[..., :1], SPANS), (ENDS[..., 0], SPANS), (ENDS, SPANS[:, 0])])
def test_spans_of_other_shapes_are_refused(logits: Any, labels: Any) -> None:
    with pytest.raises(ft.InputError, match=r"logits \[batch, length, 2\] and labels \[batch, 2\]"):
        parts(ft.span_cross_entropy(), {"labels": labels}, logits)


def next_by_hand(pairs: Any) -> float:
    return float(np.mean([-log_softmax(NEXT[row, t])[TOKENS[row, t + 1]] for row, t in pairs]))


ALL = [(row, t) for row in range(2) for t in range(5)]


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        ({}, ALL),
        ({"mask": jnp.array([True, False])}, ALL[:5]),
        ({"attention_mask": jnp.array([[1, 1, 1, 0, 0, 0], [1] * 6])}, [(0, 0), (0, 1), *ALL[5:]]),
        ({"attention_mask": jnp.array([[0, 0, 1, 1, 1, 1], [0] * 6])}, [(0, 2), (0, 3), (0, 4)]),
        ({"segment_ids": jnp.array([[1, 1, 2, 2, 2, 0], [1, 2, 3, 3, 0, 0]])}, [(0, 0), (0, 2), (0, 3), (1, 2)]),
    ],
    ids=["whole", "row", "right padding", "left padding", "packed"],
)
def test_next_tokens_by_hand(options: dict[str, Any], pairs: Any) -> None:
    loss, metrics = parts(ft.next_token(), {"input_ids": TOKENS, **options}, NEXT)
    assert loss == pytest.approx(next_by_hand(pairs), rel=1e-5)
    best = np.argmax(NEXT, axis=-1)
    right = [best[row, t] == TOKENS[row, t + 1] for row, t in pairs]
    assert metrics["accuracy"] == pytest.approx(np.mean(right))


def test_it_is_cross_entropy_with_shifted_labels() -> None:
    labels = jnp.pad(TOKENS[:, 1:], ((0, 0), (0, 1)), constant_values=-100)
    expected, metrics = parts(ft.cross_entropy(), {"labels": labels}, NEXT)
    loss, own = parts(ft.next_token(), {"input_ids": TOKENS}, NEXT)
    assert loss == pytest.approx(expected)
    assert own["accuracy"] == metrics["accuracy"]


def test_a_task_and_the_text_beside_it_share_one_forward_pass() -> None:
    runs = []

    def forward(view: str | None = None) -> Outputs:
        runs.append(view)
        return Outputs(logits=jnp.zeros((2, 3)), token_logits=NEXT)

    batch = {"input_ids": TOKENS, "labels": jnp.array([0, 2])}
    objective = ft.combine(task=ft.cross_entropy(), lm=(ft.next_token(), 0.5))
    inner = Context(forward, batch, (), jnp.int32(0), jax.random.key(0))
    loss, (_, metrics) = objective.apply(*objective.init(jax.random.key(0), inner), inner)
    assert loss == pytest.approx(np.log(3) + 0.5 * next_by_hand(ALL), rel=1e-5)
    assert metrics["lm"] == pytest.approx(next_by_hand(ALL), rel=1e-5)


def test_what_next_token_cannot_learn_from_is_refused() -> None:
    with pytest.raises(ft.InputError, match="learns from input_ids, but the batch has only"):
        parts(ft.next_token(), {"labels": SPANS}, NEXT)
    with pytest.raises(ft.InputError, match=r"for tokens \[2, 6\], but the model's are \[2, 3\]"):
        parts(ft.next_token(), {"input_ids": TOKENS}, jnp.zeros((2, 3)))
    with pytest.raises(ft.InputError, match="reads the view 'text', but the batch has"):
        parts(ft.next_token("text"), {"input_ids": TOKENS}, NEXT)


def test_the_loss_over_a_vocabulary_needs_no_copy_of_the_logits() -> None:
    """A program of one product needs two arrays of the size of the logits: them and their gradient."""
    rows, vocabulary = 256, 4096

    def temporary(loss: Any) -> int:
        def of_hidden(hidden: Any, kernel: Any, labels: Any) -> Any:
            return loss(hidden @ kernel, labels)

        shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, rows, 8), (8, vocabulary))]
        program = jax.jit(jax.value_and_grad(of_hidden, (0, 1)))
        compiled = program.lower(*shapes, jax.ShapeDtypeStruct((1, rows), jnp.int32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def cross_entropy(z: Any, labels: Any) -> Any:
        return ft.cross_entropy().apply((), (), (), context({"labels": labels}, z))[0]

    assert temporary(cross_entropy) <= 1.1 * temporary(lambda z, labels: jnp.sum(z * z))
