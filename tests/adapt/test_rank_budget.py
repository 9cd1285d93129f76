"""The budget of AdaLoRA: importance by hand, exact counts in every phase, and ranks that go where they matter."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.adapt import budget

KEY = jax.random.key(0)
PARAMS = {"first": jnp.zeros((5, 4)), "stack": jnp.zeros((2, 4, 4)), "head": jnp.ones((4, 2))}
ADAPTATION = ft.chain(ft.adalora(["first", "stack"], rank=4, axes={"stack": "bio", "**": "io"}), ft.tune("head"))
PHASES: dict[str, Any] = {"steps": 40, "warmup": 5, "final": 10, "rank": 1, "interval": 4}


def values(learned: Any) -> np.ndarray:
    delta = learned["delta"][0]
    return np.concatenate([np.ravel(delta[path]["lambda"]) for path in ("first", "stack")])


def learned() -> Any:
    _, delta = ADAPTATION.init(KEY, PARAMS)
    return {"delta": delta, "weights": {"critic": jnp.ones(3)}}


def gradient(tree: Any, t: int) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.fold_in(KEY, t), len(leaves))
    return jax.tree.unflatten(
        structure, [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    )


def expected_budget(t: int) -> int:
    if t < 5:
        return 12
    return round(3 + 9 * max(0.0, 1 - (t - 5) / 25) ** 3)


def test_the_counts_are_exact_in_every_phase() -> None:
    optimizer, tree = ft.rank_budget(optax.sgd(0.1), **PHASES), learned()
    state, traces, last = optimizer.init(tree), [], None

    def step(tree: Any, state: Any, gradients: Any) -> Any:
        traces.append(tree)
        updates, state = optimizer.update(gradients, state, tree)
        return optax.apply_updates(tree, updates), state

    update = jax.jit(step, donate_argnums=(0, 1))
    for t in range(40):
        tree, state = update(tree, state, gradient(tree, t))
        left = values(tree) != 0
        allocates = 5 <= t < 30 and t % 4 == 0
        assert left.sum() == (expected_budget(t) if allocates or t >= 30 else 12), t
        if t > 30:
            np.testing.assert_array_equal(left, last)
        last = left
    assert len(traces) == 1
    assert int(state.step) == 40


def test_the_curve_of_the_budget() -> None:
    curve = [int(budget(jnp.int32(t), start=67, end=3, steps=20, warmup=4, final=8)) for t in range(20)]
    assert curve[:5] == [67] * 5
    assert (curve[6], curve[8], curve[10]) == (round(3 + 64 * 0.75**3), 3 + 8, 3 + 1)
    assert curve[12:] == [3] * 8
    assert curve == sorted(curve, reverse=True)


def test_importance_by_hand() -> None:
    """Two steps of one weight: smoothed sensitivity times uncertainty, of Λ and in the mean of P and Q."""
    w = {"p": jnp.array([[1.0, 2.0], [3.0, 1.0]]), "lambda": jnp.array([0.5, -0.25]), "q": jnp.array([[2.0], [1.0]])}
    g1 = {"p": jnp.array([[1.0, 0.0], [1.0, 1.0]]), "lambda": jnp.array([2.0, 4.0]), "q": jnp.array([[1.0], [3.0]])}
    g2 = jax.tree.map(lambda g: 2 * g, g1)
    optimizer = ft.rank_budget(optax.set_to_zero(), steps=3, warmup=1, final=1, rank=1, interval=1, b1=0.5, b2=0.75)
    state = optimizer.init({"w": w})
    updates, state = optimizer.update({"w": g1}, state, {"w": w})
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    updates, state = optimizer.update({"w": g2}, state, {"w": w})
    # I = (1, 1) then (2, 2) of Λ: Ī = .5 then 1.25, Ū = .25·.5 = .125 then .75·.125 + .25·.75 = .28125.
    np.testing.assert_allclose(state.sensitivity["w"]["lambda"], [1.25, 1.25])
    np.testing.assert_allclose(state.uncertainty["w"]["lambda"], [0.28125, 0.28125])
    # s grows with I²: of P mean((1 + 9)/2, (0 + 1)/2), of Q 4 and 9, times 1.25·.28125; (10 > 10.5 is false).
    unit = 1.25 * 0.28125
    np.testing.assert_allclose(
        state.sensitivity["w"]["p"] * state.uncertainty["w"]["p"], unit * np.array([[1, 0], [9, 1]])
    )
    np.testing.assert_allclose(state.sensitivity["w"]["q"] * state.uncertainty["w"]["q"], unit * np.array([[4], [9]]))
    scores = unit * np.array([1 + 5 + 4, 1 + 0.5 + 9])
    assert scores[0] < scores[1]
    # b(1) is b₀ = 2: both stay; b(2) is 1: the first goes.
    updates, state = optimizer.update({"w": g2}, state, {"w": w})
    np.testing.assert_array_equal(state.kept["w"]["lambda"], [False, True])
    np.testing.assert_array_equal(updates["w"]["lambda"], [-0.5, 0.0])


def test_ranks_go_to_the_weight_that_needs_them() -> None:
    """One weight must become a matrix of rank two, the other must stay: the budget of two goes to the first."""
    params = {"moves": jnp.zeros((6, 5)), "stays": jnp.zeros((6, 5))}
    target = jnp.zeros((6, 5)).at[0, 0].set(3.0).at[1, 1].set(2.0)
    adaptation = ft.adalora("*", rank=3, alpha=3.0)
    x = jax.random.normal(KEY, (64, 6))

    def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Any:
        return jnp.stack([batch["x"] @ params["moves"], batch["x"] @ params["stays"]], axis=1)

    objective = ft.combine(task=ft.mean_squared_error(), orthogonal=(ft.orthogonality(), 0.1))
    optimizer = ft.rank_budget(optax.adam(0.05), steps=300, warmup=30, final=100, rank=1, interval=5)
    step = ft.make_step(model, adaptation, objective, optimizer)
    batch = {"x": x, "labels": jnp.stack([x @ target, jnp.zeros((64, 5))], axis=1)}
    frozen, state = step.init(KEY, params, batch)
    state, metrics = jax.lax.scan(lambda s, _: step.update(frozen, s, batch), state, None, length=300)
    assert int((state.delta["moves"]["lambda"] != 0).sum()) == 2
    assert not state.delta["stays"]["lambda"].any()
    assert float(metrics["task"][-1]) < 1e-3
    assert float(metrics["orthogonal"][-1]) < 0.1 < float(metrics["orthogonal"][0])


def test_other_leaves_get_the_update_of_the_optimizer() -> None:
    tree = learned()
    gradients = gradient(tree, 0)
    plain, _ = optax.adam(0.1).update(gradients, optax.adam(0.1).init(tree), tree)
    optimizer = ft.rank_budget(optax.adam(0.1), **PHASES)
    ours, _ = optimizer.update(gradients, optimizer.init(tree), tree)
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


def test_the_slots_count_in_the_summary() -> None:
    optimizer = ft.rank_budget(optax.adam(0.1), **PHASES)
    row = next(row for row in ft.summary(ADAPTATION, PARAMS, optimizer).rows if row.path == "first")
    assert row.optimizer_bytes == 4 * 4 * (4 * (5 + 4) + 4) + 4  # two slots of Adam, two averages, and what is kept


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"warmup": 30}, "leave none of 40"),
        ({"final": 0}, "final as a whole number from 1 up"),
        ({"rank": 0}, "rank as a whole number from 1 up"),
        ({"interval": 1.5}, "interval as a whole number"),
        ({"b1": 1.0}, r"b1 in \[0, 1\)"),
        ({"rank": 5}, "15, but the ranks of adalora are 12 together"),
    ],
)
def test_refusals(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ft.InputError, match=reason):
        ft.rank_budget(optax.sgd(0.1), **{**PHASES, **options}).init(learned())


def test_it_needs_triplets_and_parameters() -> None:
    optimizer = ft.rank_budget(optax.sgd(0.1), **PHASES)
    with pytest.raises(ft.InputError, match=r"expects an adaptation with jaxft\.adalora"):
        optimizer.init({"delta": {"w": jnp.ones(2)}})
    tree = learned()
    with pytest.raises(ft.InputError, match="needs the parameters"):
        optimizer.update(tree, optimizer.init(tree))


def test_weights_that_do_not_learn_for_now_have_no_budget() -> None:
    optimizer = ft.rank_budget(optax.sgd(0.1), **{**PHASES, "steps": 3, "warmup": 0, "final": 1, "interval": 1})
    _, delta = ft.narrow(ADAPTATION, "first/**").init(KEY, PARAMS)
    tree = {"delta": delta}
    state = optimizer.init(tree)
    for t in range(2):
        updates, state = optimizer.update(gradient(tree, t), state, tree)
        tree = optax.apply_updates(tree, updates)
    assert np.count_nonzero(tree["delta"][0]["first"]["lambda"]) == 1  # 1 + 3 (1 − 1/2)³, rounded
    with pytest.raises(ft.InputError, match="no weight learns P, Λ and Q"):
        optimizer.init({"delta": ft.narrow(ADAPTATION, "head").init(KEY, PARAMS)[1]})
