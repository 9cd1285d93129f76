"""Class-conditional discrepancy and labels that a plan brings, against plain loops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import class_mmd2, confident_labels, transfer_labels

S, T = jax.random.normal(jax.random.key(0), (8, 3)), jax.random.normal(jax.random.key(1), (6, 3)) + 1
Y_S, Y_T = jnp.array([0, 1, 2, 0, 1, 2, 3, -1]), jnp.array([0, 1, -1, 1, 4, 0])
MASK_S, MASK_T = jnp.arange(8) < 5, jnp.arange(6) < 4


def by_loops(s: Any, t: Any, y_s: Any, y_t: Any) -> float:
    s, t, y_s, y_t = (np.asarray(values) for values in (s, t, y_s, y_t))
    total, gaps = float(((s.mean(0) - t.mean(0)) ** 2).sum()), []
    for label in range(5):
        if (y_s == label).any() and (y_t == label).any():
            gaps.append(((s[y_s == label].mean(0) - t[y_t == label].mean(0)) ** 2).sum())
    return total + float(np.mean(gaps))


def test_class_mmd2_is_its_definition() -> None:
    np.testing.assert_allclose(class_mmd2(S, T, Y_S, Y_T, classes=5), by_loops(S, T, Y_S, Y_T), rtol=1e-5)
    masked = class_mmd2(S, T, Y_S, Y_T, classes=5, source_mask=MASK_S, target_mask=MASK_T)
    np.testing.assert_allclose(masked, by_loops(S[:5], T[:4], Y_S[:5], Y_T[:4]), rtol=1e-5)
    check_grads(lambda s, t: class_mmd2(s, t, Y_S, Y_T, classes=5), (S, T), order=1, modes=["rev"], rtol=1e-2)
    none = jnp.full(6, -1)
    alone = class_mmd2(S, T, Y_S, none, classes=5)
    np.testing.assert_allclose(alone, ((S.mean(0) - T.mean(0)) ** 2).sum(), rtol=1e-5)


def test_confident_labels_are_the_surest_of_each_class() -> None:
    logits = 2 * jax.random.normal(jax.random.key(2), (20, 3))
    p = np.asarray(jax.nn.softmax(logits))
    found = np.asarray(confident_labels(logits, top=2))
    for label in range(3):
        own = [row for row in range(20) if p[row].argmax() == label]
        best = sorted(own, key=lambda row: -p[row].max())[:2]
        assert sorted(np.flatnonzero(found == label)) == sorted(best)
    assert np.all(np.asarray(confident_labels(logits, top=20, mask=jnp.arange(20) < 4))[4:] == -1)


def test_a_plan_brings_labels() -> None:
    plan, labels = jax.random.uniform(jax.random.key(3), (8, 5)), jnp.arange(8) % 3
    found = transfer_labels(plan, labels, classes=3)
    for row in range(5):
        shares = [float(sum(plan[i, row] for i in range(8) if i % 3 == label)) for label in range(3)]
        np.testing.assert_allclose(found[row], np.array(shares) / sum(shares), rtol=1e-5)
    np.testing.assert_allclose(transfer_labels(0 * plan, labels, classes=3), 1 / 3)


def heterogeneous() -> tuple[Any, Any]:
    """Three classes as points of a plane, seen through two matrices of different sizes."""
    keys = jax.random.split(jax.random.key(4), 4)
    labels = jnp.arange(90) % 3
    centres = 3 * jnp.array([[1.0, 0.0], [-0.5, 0.87], [-0.5, -0.87]])
    source = (centres[labels] + 0.3 * jax.random.normal(keys[0], (90, 2))) @ jax.random.normal(keys[1], (2, 12))
    target = (centres[labels] + 0.3 * jax.random.normal(keys[2], (90, 2))) @ jax.random.normal(keys[3], (2, 5))
    return {"source_features": source, "labels": labels}, {"target_features": target, "labels": labels}


def test_domains_of_different_sizes_meet_with_a_label_a_class() -> None:
    source, target = heterogeneous()
    known = {name: column[:3] for name, column in target.items()}
    batch = {"source": source, "target": {"target_features": target["target_features"]}, "known": known}
    model = ft.two_encoders(12, 5, num_labels=3)
    objective = ft.combine(
        task=ft.cross_entropy("source"),
        few=ft.cross_entropy("known"),
        classes=(ft.class_mmd(known="known"), 0.5),
    )
    step = ft.make_step(model.apply, ft.full(), objective, optax.adam(3e-3))
    frozen, state = step.init(jax.random.key(0), model.params, batch)
    update = jax.jit(step.update)
    for _ in range(150):
        state, metrics = update(frozen, state, batch)
    params = ft.merge(ft.full(), frozen.model, state.delta)
    logits = model.apply(params, {"target_features": target["target_features"]}).logits
    assert float((logits.argmax(1) == target["labels"]).mean()) > 0.9
    assert int(metrics["classes/pseudo_labels"]) == 9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_mmd2(S, T[:, :2], Y_S, Y_T, classes=5), "two_encoders"),
        (lambda: class_mmd2(S, T, Y_S[:3], Y_T, classes=5), "a label for each of 8 rows"),
        (lambda: class_mmd2(S, T[:0], Y_S, Y_T[:0], classes=5), "of the target, at least one"),
        (lambda: confident_labels(S, top=0), "from 1 up"),
        (lambda: transfer_labels(jnp.ones((3, 2)), jnp.arange(2), classes=2), "a plan"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ft.InputError, match=message):
        call()
