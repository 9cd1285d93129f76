"""Co-Tuning: values by hand, a source head that learns, and the relationship between categories."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import calibration_temperature, reverse_category_relationship, soft_cross_entropy
from jaxft.types import Context, Outputs

RNG = np.random.default_rng(0)
FEATURES = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
HEAD = {
    "kernel": jnp.asarray(RNG.normal(size=(3, 5)), jnp.float32),
    "bias": jnp.asarray(RNG.normal(size=5), jnp.float32),
}
RELATION = jnp.asarray(RNG.dirichlet(np.ones(5), size=2), jnp.float32)
LABELS = jnp.array([0, 1, 1, 0])


def by_hand(rows: Any = (0, 1, 2, 3), labels: Any = LABELS, bias: bool = True) -> float:
    z = np.asarray(FEATURES, np.float64) @ np.asarray(HEAD["kernel"], np.float64) + np.asarray(HEAD["bias"]) * bias
    log_q = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(np.mean([-np.sum(np.asarray(RELATION)[int(labels[row])] * log_q[row]) for row in rows]))


def context(features: Any = FEATURES, labels: Any = LABELS, mask: Any = None) -> Context:
    batch = {"source": {"labels": labels} | ({} if mask is None else {"mask": mask})}
    return Context(lambda view=None: Outputs(features=features), batch, (), jnp.int32(0), jax.random.key(0))


def loss(inner: Context, **options: Any) -> Any:
    objective = ft.co_tuning("source", **{"head": HEAD, "relationship": RELATION} | options)
    return objective.apply(*objective.init(jax.random.key(0), inner), inner)[0]


def test_by_hand() -> None:
    np.testing.assert_allclose(loss(context()), 2.3 * by_hand(), rtol=1e-5)
    traced = jax.jit(lambda weight: loss(context(), weight=weight))(1.5)
    np.testing.assert_allclose(traced, 1.5 * by_hand(), rtol=1e-5)
    bare = loss(context(), head={"kernel": HEAD["kernel"]}, weight=1.0)
    np.testing.assert_allclose(bare, by_hand(bias=False), rtol=1e-5)


def test_rows_that_do_not_count() -> None:
    broken = FEATURES.at[1].set(jnp.nan)
    mask = jnp.array([True, False, True, True])
    value, slope = jax.value_and_grad(lambda f: loss(context(f, mask=mask), weight=1.0))(broken)
    np.testing.assert_allclose(value, by_hand((0, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(slope[1], 0)
    ignored = loss(context(labels=LABELS.at[2].set(-100)), weight=1.0)
    np.testing.assert_allclose(ignored, by_hand((0, 1, 3)), rtol=1e-5)
    assert loss(context(mask=jnp.zeros(4, bool))) == 0
    assert jnp.isnan(loss(context(labels=LABELS.at[2].set(2))))


def test_gradients_and_order() -> None:
    check_grads(lambda f: loss(context(f)), (FEATURES,), order=1, modes=["rev"], rtol=1e-2)
    check_grads(lambda z: soft_cross_entropy(z, RELATION), (RELATION * 3,), order=1, modes=["rev"], rtol=1e-2)
    order = jnp.array([3, 1, 0, 2])
    np.testing.assert_allclose(loss(context(FEATURES[order], LABELS[order])), 2.3 * by_hand(), rtol=1e-5)
    assert jnp.isfinite(jax.grad(lambda f: loss(context(f)))(FEATURES * 1e6)).all()


def test_the_source_head_learns_and_the_one_given_stays() -> None:
    def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
        features = batch["x"] @ params["encoder"]
        return Outputs(logits=features @ params["head"], features=features)

    params = {"encoder": jnp.eye(3), "head": jnp.zeros((3, 2))}
    both = ft.combine(task=ft.cross_entropy(), source=ft.co_tuning(head=HEAD, relationship=RELATION))
    step = ft.make_step(model, ft.full(), both, optax.sgd(0.05))
    batch = {"x": FEATURES, "labels": LABELS}
    frozen, state = step.init(jax.random.key(0), params, batch)
    before, update, found = ft.fingerprint(HEAD), jax.jit(step.update, donate_argnums=1), []
    for _ in range(5):
        state, metrics = update(frozen, state, batch)
        found.append(float(metrics["source"]))
    assert found[-1] < found[0]
    assert ft.fingerprint(HEAD) == before != ft.fingerprint(state.weights["source"])


@pytest.mark.parametrize(
    ("options", "inner", "reason"),
    [
        ({"head": HEAD["kernel"]}, {}, "source head as {'kernel': …, 'bias': …}, but got"),
        ({"head": HEAD | {"scale": 1}}, {}, r"but got \['bias', 'kernel', 'scale'\]"),
        ({"relationship": RELATION.T}, {}, r"\[target classes, 5\] for a head of 5 outputs, but got \[5, 2\]"),
        ({}, {"features": FEATURES[:, :2]}, "reads 3 features, but the model gives 2"),
        ({}, {"features": None}, "co_tuning reads features"),
        ({}, {"labels": LABELS * 1.0}, "one whole number as label of each of 4 rows"),
        ({}, {"mask": jnp.ones(3, bool)}, r"one bool for each of 4 rows, but got \[3\]"),
    ],
)
def test_what_does_not_fit_is_refused(options: Any, inner: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        loss(context(**inner), **options)


PROBABILITIES = jnp.asarray(RNG.dirichlet(np.ones(4), size=30), jnp.float32)
CATEGORIES = jnp.asarray(np.argmax(np.asarray(PROBABILITIES)[:, :3] + 0.2 * RNG.normal(size=(30, 3)), axis=1))


def test_the_direct_relationship_is_a_mean_over_rows() -> None:
    found = ft.category_relationship(PROBABILITIES, CATEGORIES, classes=3)
    for category in range(3):
        mean = np.asarray(PROBABILITIES)[np.asarray(CATEGORIES) == category].mean(axis=0)
        np.testing.assert_allclose(found[category], mean, rtol=1e-5)


def test_the_reverse_relationship_is_bayes_rule_over_a_regression_at_its_optimum() -> None:
    strength = 3.0
    train, held = (PROBABILITIES[:20], CATEGORIES[:20]), (PROBABILITIES[20:], CATEGORIES[20:])
    found = reverse_category_relationship(*train, *held, classes=3, strengths=(strength,))
    p, one_hot = np.asarray(train[0], np.float64), np.eye(3)[np.asarray(train[1])]
    kernel = np.zeros((4, 3))
    for _ in range(20000):
        q = np.exp(p @ kernel)
        kernel -= 0.02 * (kernel + strength * p.T @ (q / q.sum(1, keepdims=True) - one_hot))
    temperature = float(calibration_temperature(jnp.asarray(np.asarray(held[0]) @ kernel, jnp.float32), held[1]))
    given_source = np.exp(kernel / temperature)
    given_source /= given_source.sum(axis=1, keepdims=True)
    joint = (given_source * np.asarray(PROBABILITIES).mean(axis=0)[:, None]).T
    np.testing.assert_allclose(found, joint / joint.sum(axis=1, keepdims=True), atol=5e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_the_strength_is_the_first_of_the_best_on_held_out_rows() -> None:
    """A weak regression says the most frequent category of every row, and is right of a third of the held-out ones."""

    def rows(*counts: int) -> tuple[Any, Any]:
        labels = jnp.repeat(jnp.arange(3), jnp.array(counts))
        return 0.25 + 0.25 * jax.nn.one_hot(labels, 3), labels

    train, held = rows(14, 3, 3), rows(4, 4, 4)

    def relate(*strengths: float) -> Any:
        return reverse_category_relationship(*train, *held, classes=3, strengths=strengths)

    weak, strong = relate(1e-4), relate(1e3)
    assert jnp.abs(weak - strong).max() > 0.05
    for strengths in ((1e-4, 1e3), (1e3, 1e-4)):
        np.testing.assert_allclose(relate(*strengths), strong, atol=1e-3)


@pytest.mark.slow
def test_the_temperature_is_where_the_likelihood_is_highest() -> None:
    logits = jnp.asarray(RNG.normal(size=(200, 3)) * 5, jnp.float32)
    labels = jnp.asarray([RNG.choice(3, p=np.asarray(jax.nn.softmax(row / 2.5))) for row in logits])
    grid = np.linspace(0.5, 10, 2000)
    losses = [float(ft.cross_entropy().apply((), (), (), at(logits / t, labels))[0]) for t in grid[::100]]
    found = float(calibration_temperature(logits, labels))
    best = float(ft.cross_entropy().apply((), (), (), at(logits / found, labels))[0])
    assert best <= min(losses) + 1e-6
    assert 1.5 < found < 4


def at(logits: Any, labels: Any) -> Context:
    return Context(lambda view=None: Outputs(logits=logits), {"labels": labels}, (), jnp.int32(0), jax.random.key(0))


def test_relationships_that_cannot_be_learned_are_refused() -> None:
    with pytest.raises(ft.InputError, match=r"category from 0 to 3 needs a row, but the labels are \[0, 1, 2\]"):
        ft.category_relationship(PROBABILITIES, CATEGORIES, classes=4)
    with pytest.raises(ft.InputError, match=r"labels \[rows\], but they are \[30, 4\] and \[3\]"):
        ft.category_relationship(PROBABILITIES, CATEGORIES[:3], classes=3)
    with pytest.raises(ft.InputError, match=r"held-out probabilities \[rows, 4\]"):
        reverse_category_relationship(
            PROBABILITIES, CATEGORIES, PROBABILITIES[:, :3], CATEGORIES, classes=3, strengths=(1.0,)
        )
