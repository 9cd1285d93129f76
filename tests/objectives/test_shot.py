"""SHOT: information and centroids by loops, the three places of pseudo-labels, and the bank."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import information_maximisation, softmax_cross_entropy
from jaxft.types import Context, Outputs

RNG = np.random.default_rng(0)
CENTRES = np.array([[3.0, 0, 0, 1], [0, 3, 0, 1], [0, 0, 3, 1]])
TRUTH = np.arange(12) % 3
FEATURES = CENTRES[TRUTH] + RNG.normal(size=(12, 4))
LOGITS = np.eye(3)[TRUTH] + RNG.normal(size=(12, 3))
MASK = np.arange(12) < 9


def softmax(z: Any) -> Any:
    e = np.exp(np.asarray(z, np.float64) - np.max(z, axis=-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def information(logits: Any) -> float:
    p = softmax(logits)
    rows = np.mean([-sum(q * np.log(q) for q in row) for row in p])
    return float(rows + sum(m * np.log(m) for m in p.mean(0)))


def nearest(features: Any, centres: dict[int, Any]) -> Any:
    def cosine(f: Any, c: Any) -> float:
        return float(f @ c / (np.linalg.norm(f) * np.linalg.norm(c)))

    return np.array([max(centres, key=lambda k: cosine(f, centres[k])) for f in features])


def by_hand(features: Any, logits: Any) -> Any:
    p = softmax(logits)
    soft = {k: sum(p[i, k] * f for i, f in enumerate(features)) / p[:, k].sum() for k in range(p.shape[1])}
    first = nearest(features, soft)
    return nearest(features, {int(k): features[first == k].mean(0) for k in set(first)})


def test_information_by_loops_and_its_gradient() -> None:
    logits, mask = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(MASK)
    np.testing.assert_allclose(information_maximisation(logits), information(LOGITS), rtol=1e-5)
    broken = jnp.where(mask[:, None], logits, jnp.nan)
    loss, slope = jax.value_and_grad(information_maximisation)(broken, mask=mask)
    np.testing.assert_allclose(loss, information(LOGITS[:9]), rtol=1e-5)
    assert np.isfinite(slope).all()
    check_grads(information_maximisation, (logits,), order=1, modes=["rev"], rtol=1e-2)


@pytest.mark.parametrize("logits", [np.zeros((4, 3)), np.eye(3)[[0, 0, 0, 0]] * 1e4, np.full((4, 3), [0, 0, -np.inf])])
def test_information_is_finite_where_classes_are_ruled_out(logits: Any) -> None:
    loss, slope = jax.value_and_grad(information_maximisation)(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(loss, 0.0, atol=1e-5)
    assert np.isfinite(slope).all()


def test_pseudo_labels_by_loops() -> None:
    features, logits = jnp.asarray(FEATURES), jnp.asarray(LOGITS)
    expected = by_hand(FEATURES, LOGITS)
    assert (expected != LOGITS.argmax(1)).any()
    np.testing.assert_array_equal(ft.shot_pseudo_labels(features, logits), expected)
    masked = ft.shot_pseudo_labels(features.at[9:].set(jnp.nan), logits.at[9:].set(jnp.nan), mask=jnp.asarray(MASK))
    np.testing.assert_array_equal(masked, [*by_hand(FEATURES[:9], LOGITS[:9]), -100, -100, -100])


def test_a_class_without_rows_has_no_centroid_and_degenerate_features_a_label() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    logits = np.array([[4.0, 0.0, 1.0], [4.0, 0.0, 1.0], [0.0, 4.0, 3.9]])
    expected = by_hand(features, logits)
    assert 2 not in expected
    np.testing.assert_array_equal(ft.shot_pseudo_labels(jnp.asarray(features), jnp.asarray(logits)), expected)
    for degenerate in (jnp.zeros((3, 2)), jnp.ones((3, 2)), jnp.asarray(features) * 1e20):
        labels = ft.shot_pseudo_labels(degenerate, jnp.asarray(logits))
        assert ((labels >= 0) & (labels < 3)).all()


def context(rows: Any, **columns: Any) -> Context:
    outputs = Outputs(features=jnp.asarray(FEATURES[rows]), logits=jnp.asarray(LOGITS[rows]))
    return Context(lambda view=None: outputs, {"target": columns}, (), jnp.int32(0), jax.random.key(0))


def total(rows: Any, labels: Any, beta: float = 0.3) -> float:
    p = softmax(LOGITS[rows])
    return information(LOGITS[rows]) - beta * float(np.mean([np.log(p[i, y]) for i, y in enumerate(labels)]))


def test_labels_of_the_batch_and_of_a_column() -> None:
    every = np.arange(12)
    loss, (memory, metrics) = ft.shot("target").apply((), (), (), context(every))
    np.testing.assert_allclose(loss, total(every, by_hand(FEATURES, LOGITS)), rtol=1e-5)
    np.testing.assert_allclose(metrics["information"], information(LOGITS), rtol=1e-5)
    assert memory == ()
    column = jnp.asarray(TRUTH).at[0].set(2)
    loss = ft.shot(pseudo="column", beta=0.5).apply((), (), (), context(every, pseudo_labels=column))[0]
    np.testing.assert_allclose(loss, total(every, np.asarray(column), 0.5), rtol=1e-5)
    left_out = column.at[1].set(-100)
    loss = ft.shot(pseudo="column").apply((), (), (), context(every, pseudo_labels=left_out))[0]
    own = softmax_cross_entropy(jnp.asarray(LOGITS), left_out)
    np.testing.assert_allclose(loss, information(LOGITS) + 0.3 * own, rtol=1e-5)


def test_the_bank_has_what_was_last_seen_of_each_row() -> None:
    objective = ft.shot("target", pseudo="bank", rows=12)
    first, second = np.array([4, 0, 8, 2, 10, 6]), np.array([1, 3, 5, 7, 9, 11])
    seen = context(first, row=jnp.asarray(first))
    _, _, memory = objective.init(jax.random.key(0), seen)
    loss, (memory, _) = objective.apply((), (), memory, seen)
    np.testing.assert_allclose(loss, total(first, by_hand(FEATURES[first], LOGITS[first])), rtol=1e-5)
    loss, (memory, _) = objective.apply((), (), memory, context(second, row=jnp.asarray(second)))
    np.testing.assert_allclose(loss, total(second, by_hand(FEATURES, LOGITS)[second]), rtol=1e-5)
    np.testing.assert_allclose(memory["features"], FEATURES, rtol=1e-6)
    assert memory["seen"].all()
    padding = {"row": jnp.array([0, 1, 99, -1]), "mask": jnp.array([True, False, True, True])}
    _, (after, _) = objective.apply((), (), memory, context(np.array([5, 5, 5, 5]), **padding))
    np.testing.assert_allclose(after["features"], [FEATURES[5], *FEATURES[1:]], rtol=1e-6)


def net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
    features = jnp.tanh(batch["x"] @ params["body"]["kernel"])
    return Outputs(logits=features @ params["head"]["kernel"], features=features)


@pytest.mark.parametrize("options", [{}, {"pseudo": "bank", "rows": 12}])
def test_a_model_adapts_without_source_and_labels_and_its_head_stays(options: Any) -> None:
    params = {"body": {"kernel": jnp.eye(4)}, "head": {"kernel": jnp.asarray(CENTRES.T, jnp.float32)}}
    step = ft.make_step(net, ft.freeze("head/**"), ft.shot("target", **options), optax.sgd(0.05))

    def trained(labels: Any) -> Any:
        target = {"x": jnp.asarray(FEATURES, jnp.float32), "row": jnp.arange(12)} | labels
        frozen, state = step.init(jax.random.key(0), params, {"target": target})
        losses = []
        for _ in range(5):
            state, metrics = jax.jit(step.update)(frozen, state, {"target": target})
            losses.append(float(metrics["loss"]))
        return state.delta, losses

    delta, losses = trained({})
    assert losses[-1] < losses[0]
    assert delta["head"]["kernel"] is None
    told, _ = trained({"labels": jnp.zeros(12, int)})
    np.testing.assert_array_equal(told["body"]["kernel"], delta["body"]["kernel"])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: ft.shot(pseudo="epoch"), "one of batch, bank, column, .* got pseudo='epoch' and rows=None"),
        (lambda: ft.shot(pseudo="bank"), "the number of rows of the target for the bank alone"),
        (lambda: ft.shot(rows=3), "got pseudo='batch' and rows=3"),
        (lambda: ft.shot(pseudo="column").apply((), (), (), context([0])), "expects 'pseudo_labels' in 'target'"),
        (
            lambda: ft.shot(pseudo="bank", rows=2).apply((), (), (), context([0], row=jnp.ones(1))),
            r"expects 'row' in 'target', whole numbers \[batch\], the number of each row",
        ),
        (lambda: ft.shot_pseudo_labels(jnp.ones((2, 3)), jnp.ones((3, 2))), r"are \[2, 3\] and \[3, 2\]"),
        (lambda: information_maximisation(jnp.ones((2, 3, 4))), r"\[batch, classes\], but they are \[2, 3, 4\]"),
    ],
)
def test_what_shot_cannot_use_is_refused(wrong: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        wrong()
