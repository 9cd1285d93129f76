"""Predictions and the figures over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.train import evaluate, predict
from jaxft.types import Outputs


def batches_of(x, size):
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        missing = size - len(rows)
        mask = np.arange(size) < len(rows)
        yield {
            "x": np.pad(rows, ((0, missing), (0, 0)), constant_values=7.0),
            "labels": np.zeros(size, int),
            "mask": mask,
        }


def test_predicts_the_real_rows_in_order_and_traces_once_a_shape():
    traces = []

    def apply(params, batch):
        traces.append(batch["x"].shape)
        assert "labels" not in batch
        assert "mask" not in batch
        return Outputs(logits=batch["x"] @ params)

    x = np.random.default_rng(0).normal(size=(23, 4)).astype(np.float32)
    params = jnp.eye(4)[:, :2]
    for _ in range(3):
        np.testing.assert_allclose(predict(apply, params, batches_of(x, 5)), x[:, :2])
    assert traces == [(5, 4)]
    predict(apply, params, batches_of(x, 8))
    assert traces == [(5, 4), (8, 4)]


def test_a_plain_function_with_low_rank_weights():
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    adaptation = ft.lora("kernel", rank=2)
    frozen, delta = adaptation.init(jax.random.key(0), {"kernel": jnp.eye(4)})
    delta = jax.tree.map(jnp.ones_like, delta)
    merged = ft.merge(adaptation, frozen, delta)["kernel"]
    assert not np.array_equal(merged, np.eye(4))
    bound = adaptation.bind(frozen, delta)
    found = predict(lambda params, batch: batch["x"] @ params["kernel"], bound, batches_of(x, 4))
    np.testing.assert_allclose(found, x @ merged, rtol=1e-5, atol=1e-5)


def test_padding_rows_never_count():
    x = np.array([[2.0, 1.0]] * 3, np.float32)
    figures = evaluate(lambda params, batch: Outputs(logits=batch["x"]), None, batches_of(x, 8))
    assert figures["accuracy"] == 1.0
    assert figures["loss"] == pytest.approx(np.log1p(np.exp(-1.0)))


def test_regression():
    batch = {
        "x": np.array([1.0, 2.0, 4.0, 9.0]),
        "labels": np.array([1.0, 2.0, 3.0, 0.0]),
        "mask": np.array([1, 1, 1, 0]),
    }
    found = evaluate(lambda params, batch: Outputs(logits=batch["x"][:, None]), None, [batch], task="regress")
    assert found["mse"] == pytest.approx(1 / 3)
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])


@pytest.mark.parametrize("rank", [2, 3])
def test_tokens_of_batches_of_different_lengths(rank):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=shape[:rank]).astype(np.float32) for shape in [(2, 3, 4), (1, 5, 4), (2, 2, 4)]]
    found = predict(lambda params, batch: batch["x"], None, [{"x": part} for part in parts])
    assert found.shape == ((5, 5, 4) if rank == 3 else (5, 5))
    row = 0
    for part in parts:
        here = found[row : row + len(part)]
        np.testing.assert_array_equal(here[:, : part.shape[1]], part)
        rest = here[:, part.shape[1] :]
        assert (rest < -1e37).all()
        assert np.isfinite(rest + rest).all()
        row += len(part)


def test_bfloat16_logits_are_padded_too():
    parts = [jnp.ones((1, length, 2), jnp.bfloat16) for length in (1, 2)]
    found = predict(lambda params, batch: batch["x"], None, [{"x": part} for part in parts])
    assert found.dtype == jnp.bfloat16
    assert np.isfinite(found.astype(np.float32)).all()


def test_tags_of_batches_of_different_lengths():
    names = ["O", "B-LOC", "I-LOC"]
    tags = [np.array([[1, 2, 0]]), np.array([[1, 0], [1, 1]])]
    labels = [np.array([[1, 2, -100]]), np.array([[1, -100], [0, 0]])]
    batches = [
        {"x": np.eye(3, dtype=np.float32)[tag], "labels": label, "mask": np.array([True, False])[: len(tag)]}
        for tag, label in zip(tags, labels, strict=True)
    ]
    found = evaluate(lambda params, batch: batch["x"], None, batches, task="tag", names=names)
    assert (found["accuracy"], found["precision"], found["recall"]) == (1.0, 1.0, 1.0)
    batches[1]["mask"] = np.array([True, True])
    found = evaluate(lambda params, batch: batch["x"], None, batches, task="tag", names=names)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert (found["precision"], found["recall"]) == (0.5, 1.0)
    with pytest.raises(ft.InputError, match="pass names, one for each tag"):
        evaluate(lambda params, batch: batch["x"], None, batches, task="tag")
    with pytest.raises(ft.InputError, match="the task is 'classify': leave them out"):
        evaluate(lambda params, batch: batch["x"], None, batches, names=names)


@pytest.mark.parametrize("task", ["lm", "seq2seq"])
def test_the_perplexity_of_tokens(task):
    batch = {"x": np.zeros((2, 3, 8), np.float32), "labels": np.array([[0, 5, -100], [0, -100, -100]])}
    found = evaluate(lambda params, batch: batch["x"], None, [batch], task=task)
    assert found == pytest.approx({"loss": np.log(8), "perplexity": 8.0, "accuracy": 2 / 3})


def test_an_unknown_task_is_refused():
    with pytest.raises(ft.InputError, match="but is 'regression'"):
        evaluate(lambda params, batch: batch["x"], None, [], task="regression")


def test_nothing_to_predict_is_refused():
    def apply(params, batch):
        return Outputs(logits=batch["x"])

    with pytest.raises(ft.InputError, match="nothing to predict"):
        predict(apply, None, [])
    with pytest.raises(ft.InputError, match="nothing to evaluate"):
        evaluate(apply, None, [])
    with pytest.raises(ft.InputError, match="has none: predict needs no labels"):
        evaluate(apply, None, [{"x": np.ones((2, 2))}])


def test_predictions_that_are_nan_are_refused():
    batches = [{"x": np.zeros((2, 3), np.float32)}, {"x": np.full((2, 3), np.nan, np.float32)}]
    with pytest.raises(ft.InputError, match="NaN in 2 of 4 rows, the first of them row 3"):
        predict(lambda params, batch: batch["x"], None, batches)
