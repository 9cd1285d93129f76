"""Sums over tokens: by hand, over batches, devices' worth of memory, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxft as ft
from jaxft.train import TokenLosses, label_losses, token_losses
from jaxft.types import Outputs

RNG = np.random.default_rng(0)


def batch_of(rows, length, vocabulary=7):
    labels = RNG.integers(0, vocabulary, (rows, length))
    labels[RNG.random((rows, length)) < 0.3] = -100
    return {"x": RNG.normal(size=(rows, length, vocabulary)).astype(np.float32), "labels": labels}


def by_hand(batches):
    nll, tokens, correct = 0.0, 0, 0
    for batch in batches:
        for row, real in enumerate(batch.get("mask", [True] * len(batch["x"]))):
            for z, label in zip(batch["x"][row].astype(float), batch["labels"][row], strict=True):
                if real and label != -100:
                    nll += np.log(np.exp(z).sum()) - z[label]
                    tokens, correct = tokens + 1, correct + int(z.argmax() == label)
    return TokenLosses(pytest.approx(nll, rel=1e-5), tokens, correct)


def logits(params, batch):
    assert "labels" not in batch
    assert "mask" not in batch
    return batch["x"]


def test_by_hand_over_batches_of_different_lengths():
    batches = [batch_of(3, 4), batch_of(3, 6), batch_of(2, 5), batch_of(3, 4), batch_of(1, 2)]
    batches[1]["mask"] = np.array([True, False, True])
    assert token_losses(logits, None, batches) == by_hand(batches)
    assert token_losses(logits, None, iter(batches), placement=ft.data_parallel(devices=jax.devices()[:1])) == by_hand(
        batches
    )


def test_token_logits_go_before_those_of_a_task():
    batch = batch_of(2, 3)

    def apply(params, batch):
        return Outputs(logits=jnp.zeros((2, 9)), token_logits=batch["x"])

    assert token_losses(apply, None, [batch]) == by_hand([batch])


def test_one_trace_a_shape():
    traces = []

    def apply(params, batch):
        traces.append(batch["x"].shape)
        return batch["x"] * params

    batches = [batch_of(2, 3), batch_of(2, 3), batch_of(2, 4)]
    for scale in (1.0, 2.0):
        token_losses(apply, jnp.float32(scale), batches)
    assert traces == [(2, 3, 7), (2, 4, 7)]


def test_only_sums_come_back():
    found = token_losses(logits, None, [batch_of(2, 3)])
    assert [type(value) for value in found] == [float, int, int]


def test_rows_that_are_left_out_may_hold_anything():
    batch = batch_of(2, 3)
    batch["mask"] = np.array([True, False])
    batch["x"][1], batch["labels"][1] = np.nan, 99
    assert token_losses(logits, None, [batch]) == by_hand([batch])


@pytest.mark.parametrize("label", [-1, 7])
def test_a_label_that_is_no_token_is_refused(label):
    batch = batch_of(2, 3)
    batch["labels"][0, :2] = label
    with pytest.raises(ft.InputError, match="-100 where nothing counts, but 2 are neither"):
        token_losses(logits, None, [batch])


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ([], "no batch was given"),
        ([{"x": np.zeros((2, 3, 4))}], r"need labels, but a batch has only \['x'\]"),
        ([{"x": np.zeros((2, 3, 4)), "labels": np.zeros((2, 2), int)}], r"logits are \[2, 3, 4\] and labels \[2, 2\]"),
        ([{"x": np.zeros((2, 4)), "labels": np.zeros(2, int)}], r"logits are \[2, 4\] and labels \[2\]"),
    ],
)
def test_what_does_not_fit_is_refused(batches, reason):
    with pytest.raises(ft.InputError, match=reason):
        token_losses(logits, None, batches)


def test_each_label_has_the_loss_that_is_summed():
    batches = [batch_of(3, 4), batch_of(2, 6)]
    batches[0]["mask"] = np.array([True, False, True])
    found = list(label_losses(logits, None, batches))
    assert [losses.shape for losses, _ in found] == [(2, 4), (2, 6)]
    assert all((losses[labels == -100] == 0).all() for losses, labels in found)
    sums = sum(losses.sum() for losses, _ in found), sum((labels != -100).sum() for _, labels in found)
    assert sums == by_hand(batches)[:2]
    np.testing.assert_array_equal(found[0][1], batches[0]["labels"][[0, 2]])
    z, label = batches[1]["x"][0, 0], 3
    batches[1]["labels"][0, 0] = label
    losses = list(label_losses(logits, None, batches))[1][0]
    assert losses[0, 0] == pytest.approx(np.log(np.exp(z).sum()) - z[label], rel=1e-5)


def test_losses_of_labels_that_are_no_tokens_are_refused():
    batch = batch_of(1, 2)
    batch["labels"][0, 0] = 7
    with pytest.raises(ft.InputError, match="1 are neither"):
        list(label_losses(logits, None, [batch]))
    with pytest.raises(ft.InputError, match="need labels"):
        list(label_losses(logits, None, [{"x": batch["x"]}]))
