"""What a student writes itself, as rows to learn from."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from tests.models.golden import golden

MODEL = golden("gpt2_lm").model
ROWS, LENGTH = 4, 12
PROMPTS = np.array([3, 5, 1, 4])
RNG = np.random.default_rng(0)
IDS = RNG.integers(5, 40, size=(ROWS, LENGTH)).astype(np.int32)
LABELS = np.concatenate([IDS[:, 1:], np.full((ROWS, 1), -100, np.int32)], axis=1)
LABELS[np.arange(LENGTH) < PROMPTS[:, None] - 1] = -100
BATCH = {"input_ids": IDS, "attention_mask": np.ones((ROWS, LENGTH), np.int32), "labels": LABELS}
KEY = jax.random.key(0)


def test_all_rows_are_the_students_own() -> None:
    new = ft.distil.on_policy(MODEL, BATCH, key=KEY, share=1.0, temperature=0.0)
    for row, start in enumerate(PROMPTS):
        prompt = IDS[row : row + 1, :start]
        written = ft.generate(MODEL, {"input_ids": prompt}, max_new_tokens=LENGTH - int(start))
        reply = written.tokens[0][: written.lengths[0]]
        end = start + len(reply)
        np.testing.assert_array_equal(new["input_ids"][row, :start], IDS[row, :start])
        np.testing.assert_array_equal(new["input_ids"][row, start:end], reply)
        np.testing.assert_array_equal(new["attention_mask"][row], np.arange(LENGTH) < end)
        counted = new["labels"][row] != -100
        np.testing.assert_array_equal(np.flatnonzero(counted), np.arange(start - 1, end - 1))
        np.testing.assert_array_equal(new["labels"][row][counted], reply)


def test_a_share_of_the_rows_by_the_key() -> None:
    same = ft.distil.on_policy(MODEL, BATCH, key=KEY, share=0.0)
    for name, column in BATCH.items():
        np.testing.assert_array_equal(same[name], column)
    one, again = (ft.distil.on_policy(MODEL, BATCH, key=KEY, share=0.5) for _ in range(2))
    np.testing.assert_array_equal(one["input_ids"], again["input_ids"])
    changed = (one["input_ids"] != IDS).any(axis=1)
    assert 0 < changed.sum() < ROWS
    np.testing.assert_array_equal(one["labels"][~changed], LABELS[~changed])


def test_the_students_params_of_the_moment() -> None:
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), MODEL.params)
    own, other = (
        ft.distil.on_policy(MODEL, BATCH, key=KEY, share=1.0, temperature=0.0, params=params)["input_ids"]
        for params in (None, moved)
    )
    assert (own != other).any()


def test_on_policy_distillation_brings_the_student_to_the_teacher() -> None:
    student = ft.distil.shrink(MODEL, layers=(0,))
    step = ft.make_step(student.apply, ft.full(), ft.gkd(MODEL, beta=1.0), optax.adam(3e-3))
    frozen, state = step.init(jax.random.key(1), student.params, BATCH)
    update, losses = jax.jit(step.update), []
    for number in range(12):
        key = jax.random.fold_in(KEY, number)
        batch = ft.distil.on_policy(student, BATCH, key=key, share=1.0, params=state.delta)
        state, metrics = update(frozen, state, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_rows_as_long_as_the_model_allows() -> None:
    longest = MODEL.config.max_positions
    ids = np.ones((2, longest), np.int32) * 7
    labels = np.full_like(ids, -100)
    labels[0, 2], labels[1, longest - 5] = 7, 7
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}
    new = ft.distil.on_policy(MODEL, batch, key=KEY, share=1.0, temperature=0.0)
    assert [(row != -100).sum() for row in new["labels"]] == [4, 4]
    np.testing.assert_array_equal(new["attention_mask"].sum(axis=1), [7, longest])


BAD: dict[str, tuple[Any, str]] = {
    "share": (lambda: ft.distil.on_policy(MODEL, BATCH, key=KEY, share=1.5), "between 0 and 1, but is 1.5"),
    "labels": (
        lambda: ft.distil.on_policy(MODEL, {"input_ids": IDS, "attention_mask": IDS}, key=KEY),
        "needs labels beside input_ids, attention_mask",
    ),
    "shape": (lambda: ft.distil.on_policy(MODEL, BATCH | {"labels": LABELS[:, 1:]}, key=KEY), "of one shape"),
    "no reply": (
        lambda: ft.distil.on_policy(MODEL, BATCH | {"labels": np.full_like(IDS, -100)}, key=KEY, share=1.0),
        "row 1 of the batch has no reply",
    ),
    "packed": (lambda: ft.distil.on_policy(MODEL, BATCH | {"segment_ids": IDS}, key=KEY), "one text a row"),
    "no decoder": (
        lambda: ft.distil.on_policy(golden("bert_gelu").model, BATCH, key=KEY, share=1.0),
        "generate needs a model",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ft.InputError, match=message):
        call()
