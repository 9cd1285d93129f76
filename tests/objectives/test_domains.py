"""Several labelled domains, mixed rows, moments and missing classes: values by loops."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxft as ft
from jaxft.objectives import group_weights, moment_distance, scale_gradient
from jaxft.objectives.mixup import partners
from jaxft.types import Context, Outputs
from tests.objectives.contexts import context

RNG = np.random.default_rng(0)
Z = {name: RNG.normal(size=(rows, 3)) * 2 for name, rows in (("books", 4), ("films", 5), ("music", 6))}
Y = {name: np.arange(len(z)) % 3 for name, z in Z.items()}
MASKS = {"books": np.arange(4) < 3, "films": np.arange(5) > 0, "music": np.ones(6, bool)}
VIEWS = list(Z)
BATCH = {name: {"labels": jnp.asarray(Y[name]), "mask": jnp.asarray(MASKS[name])} for name in VIEWS}
LOGITS = {name: jnp.asarray(z, jnp.float32) for name, z in Z.items()}


def risk(z: Any, y: Any, mask: Any) -> float:
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    return float(np.mean([-log_p[i, y[i]] for i in range(len(y)) if mask[i]]))


RISKS = np.array([risk(Z[name], Y[name], MASKS[name]) for name in VIEWS])


def test_the_mean_risk() -> None:
    loss, (_, metrics) = ft.erm(VIEWS).apply((), (), (), context(BATCH, LOGITS))
    np.testing.assert_allclose(loss, RISKS.mean(), rtol=1e-5)
    np.testing.assert_allclose([metrics[name] for name in VIEWS], RISKS, rtol=1e-5)
    right = [np.mean((Z[n].argmax(1) == Y[n])[MASKS[n]]) for n in VIEWS]
    np.testing.assert_allclose(metrics["accuracy"], np.mean(right), rtol=1e-5)


def test_the_weights_of_groups_over_steps() -> None:
    objective = ft.group_dro(VIEWS, step_size=0.5)
    found = context(BATCH, LOGITS)
    _, _, memory = objective.init(jax.random.key(0), found)
    q = np.full(3, 1 / 3)
    for _ in range(3):
        loss, (memory, metrics) = objective.apply((), (), memory, found)
        q = q * np.exp(0.5 * RISKS) / (q * np.exp(0.5 * RISKS)).sum()
        np.testing.assert_allclose(memory, q, rtol=1e-5)
        np.testing.assert_allclose(loss, (q * RISKS).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["worst"], RISKS.max(), rtol=1e-5)
    np.testing.assert_allclose(metrics["films/share"], q[1], rtol=1e-5)


def test_no_gradient_goes_through_the_weights_and_they_stay_finite() -> None:
    assert not jax.grad(lambda r: group_weights(jnp.ones(3) / 3, r, step_size=0.5)[0])(jnp.arange(3.0)).any()
    np.testing.assert_allclose(group_weights(jnp.array([1.0, 0.0]), jnp.array([1e6, 0.0])), [1, 0])


def test_the_penalty_is_the_square_of_a_difference_quotient_by_the_scale() -> None:
    expected = []
    for name in VIEWS:
        slope = (risk(1.00001 * Z[name], Y[name], MASKS[name]) - risk(0.99999 * Z[name], Y[name], MASKS[name])) / 2e-5
        mask = jnp.asarray(MASKS[name])
        np.testing.assert_allclose(scale_gradient(LOGITS[name], jnp.asarray(Y[name]), mask=mask), slope, rtol=1e-4)
        expected.append(slope**2)
    loss, (_, metrics) = ft.irm(VIEWS).apply((), (), (), context(BATCH, LOGITS))
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-4)
    np.testing.assert_allclose(metrics["films"], expected[1], rtol=1e-4)
    check_grads(
        lambda z: scale_gradient(z, jnp.asarray(Y["music"])), (LOGITS["music"],), order=1, modes=["rev"], rtol=2e-2
    )


X = jnp.asarray(RNG.normal(size=(6, 2, 2)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)


def mixed(part: Any, key: Any = None, **options: Any) -> Any:
    def forward(view: Any = None, **changes: Any) -> Outputs:
        return Outputs(logits=jnp.tanh({**part, **changes}["pixels"]).reshape(-1, 4) @ KERNEL)

    key = jax.random.key(3) if key is None else key
    found = Context(forward, {"source": part}, (), jnp.int32(0), key)
    return ft.mixup("source", **options).apply((), (), (), found)


def test_mixup_by_loops_and_padding_that_changes_nothing() -> None:
    part = {"pixels": X, "labels": jnp.asarray(Y["music"])}
    loss, (_, metrics) = mixed(part)
    share, other = (
        float(metrics["share"]),
        np.asarray(partners(jax.random.split(jax.random.key(3))[1], jnp.ones(6, bool))),
    )
    assert sorted(other) == list(range(6))
    x = np.asarray(X, np.float64)
    z = np.tanh(share * x + (1 - share) * x[other]).reshape(6, 4) @ np.asarray(KERNEL, np.float64)
    expected = share * risk(z, Y["music"], np.ones(6)) + (1 - share) * risk(z, Y["music"][other], np.ones(6))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    padded = {
        "pixels": jnp.concatenate([X, jnp.full((2, 2, 2), jnp.nan)]),
        "labels": jnp.concatenate([part["labels"], jnp.zeros(2, int)]),
        "mask": jnp.arange(8) < 6,
    }
    np.testing.assert_allclose(mixed(padded)[0], loss, rtol=1e-5)


def test_shares_of_mixup_are_of_a_beta_distribution() -> None:
    part = {"pixels": X, "labels": jnp.asarray(Y["music"])}
    for alpha in (0.2, 2.0):
        keys = jax.random.split(jax.random.key(0), 2000)
        shares = jax.vmap(lambda key, alpha=alpha: mixed(part, key, alpha=alpha)[1][1]["share"])(keys)
        assert abs(shares.mean() - 0.5) < 0.03
        np.testing.assert_allclose(shares.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.1)


FEATURES = [RNG.normal(size=(rows, 4)) for rows in (4, 5, 6)]
TARGET = RNG.normal(size=(7, 4)) + 1


def moments_by_hand(groups: Any, target: Any, moments: int) -> float:
    total, n = 0.0, len(groups)
    for k in range(1, moments + 1):
        means = [(g**k).mean(0) for g in groups]
        total += sum(np.linalg.norm(m - (target**k).mean(0)) for m in means) / n
        pairs = [np.linalg.norm(means[i] - means[j]) for i in range(n) for j in range(i + 1, n)]
        total += sum(pairs) / max(len(pairs), 1)
    return float(total)


@pytest.mark.parametrize("moments", [1, 2, 3])
@pytest.mark.parametrize("sources", [1, 2, 3])
def test_moments_by_loops(moments: int, sources: int) -> None:
    groups = [jnp.asarray(g, jnp.float32) for g in FEATURES[:sources]]
    found = moment_distance(groups, jnp.asarray(TARGET, jnp.float32), moments=moments)
    np.testing.assert_allclose(found, moments_by_hand(FEATURES[:sources], TARGET, moments), rtol=1e-5)


def test_moments_of_views_their_masks_and_gradients() -> None:
    outputs = {name: Outputs(features=jnp.asarray(g, jnp.float32)) for name, g in zip(VIEWS, FEATURES, strict=True)}
    outputs["target"] = Outputs(features=jnp.asarray(TARGET, jnp.float32))
    batch = BATCH | {"target": {"labels": jnp.zeros(7, int)}}
    found = Context(lambda view: outputs[view], batch, (), jnp.int32(0), jax.random.key(0))
    loss = ft.m3sda(VIEWS, "target").apply((), (), (), found)[0]
    kept = [g[MASKS[name]] for name, g in zip(VIEWS, FEATURES, strict=True)]
    np.testing.assert_allclose(loss, moments_by_hand(kept, TARGET, 2), rtol=1e-5)
    empty = batch | {"films": batch["films"] | {"mask": jnp.zeros(5, bool)}}
    without = ft.m3sda(VIEWS).apply((), (), (), found._replace(batch=empty))[0]
    np.testing.assert_allclose(without, moments_by_hand([kept[0], kept[2]], TARGET, 2), rtol=1e-5)
    groups = tuple(jnp.asarray(g, jnp.float32) for g in (*FEATURES[:2], TARGET))
    check_grads(lambda a, b, t: moment_distance([a, b], t), groups, order=1, modes=["rev"], rtol=2e-2)
    for same in (groups[0], jnp.zeros((4, 4)), groups[0] * 1e4):
        value, slope = jax.value_and_grad(lambda x: moment_distance([x, x], x))(same)
        assert value == 0
        assert np.isfinite(slope).all()


def test_weights_of_classes_that_the_target_may_lack() -> None:
    p = RNG.dirichlet(np.ones(4), size=5)
    mean = p[:3].mean(0)
    masked = jnp.asarray(p, jnp.float32).at[3:].set(jnp.nan)
    found = ft.partial_class_weights(masked, mask=jnp.arange(5) < 3)
    np.testing.assert_allclose(found, mean / mean.max(), rtol=1e-5)
    np.testing.assert_array_equal(ft.partial_class_weights(masked, mask=jnp.zeros(5, bool)), np.ones(4))


def test_domains_learn_together_in_one_step() -> None:
    def net(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Outputs:
        return Outputs(logits=batch["x"] @ params, features=batch["x"] @ params)

    batch = {name: {"x": X[: len(Y[name]), 0], "labels": jnp.asarray(Y[name])} for name in VIEWS}
    objective = ft.combine(
        risk=ft.group_dro(VIEWS),
        invariant=(ft.irm(VIEWS), 0.1),
        moments=(ft.m3sda(VIEWS[:2], "music"), 0.1),
        mixed=ft.mixup("music"),
    )
    step = ft.make_step(net, ft.full(), objective, optax.sgd(0.1))
    frozen, state = step.init(jax.random.key(0), jnp.zeros((2, 3)), batch)
    for _ in range(2):
        state, metrics = jax.jit(step.update)(frozen, state, batch)
    assert all(jnp.isfinite(value).all() for value in jax.tree.leaves((state.delta, metrics)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda: ft.erm([]), r"erm expects the names of different views of the batch, but got \[\]"),
        (lambda: ft.group_dro(["a", "a"]), r"but got \['a', 'a'\]"),
        (lambda: ft.irm(["books", "none"]).apply((), (), (), context(BATCH, LOGITS)), "reads the view 'none'"),
        (lambda: ft.erm(["x"]).apply((), (), (), context({"x": {}}, {"x": jnp.ones((1, 2))})), "needs labels"),
        (lambda: ft.mixup(alpha=0.0), "expects a positive alpha, but got 0.0"),
        (
            lambda: mixed({"input_ids": jnp.ones((2, 3), int), "labels": jnp.zeros(2, int)}),
            r"arrays of floats, such as pixels or features, but the view has whole numbers in \['input_ids'\]",
        ),
        (lambda: mixed({"row": jnp.ones(2, int), "labels": jnp.zeros(2, int)}), r"but the view has \['row'\]"),
        (lambda: ft.m3sda([]), "expects at least one source"),
        (lambda: moment_distance([jnp.ones((2, 3))], jnp.ones((2, 4))), r"got \[\[2, 3\], \[2, 4\]\]"),
        (lambda: moment_distance([], jnp.ones((2, 4))), r"at least one source and a target"),
        (lambda: moment_distance([jnp.ones((2, 3))], jnp.ones((2, 3)), moments=0), "from 1 up, but is 0"),
        (
            lambda: moment_distance([jnp.ones((2, 3))], jnp.ones((2, 3)), source_masks=[]),
            "each of 1 sources, but got 0",
        ),
        (lambda: ft.partial_class_weights(jnp.ones(3)), r"\[rows, classes\], but they are \[3\]"),
    ],
)
def test_what_is_no_set_of_domains_is_refused(wrong: Any, reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        wrong()
