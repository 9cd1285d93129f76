"""Whose rows batch norm sees, where a step reads two domains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from jaxft.types import Context, Objective

KEY = jax.random.key(0)
MOMENTUM, EPS = 0.25, 1e-5
PARAMS = {"norm": {"mean": jnp.zeros(2), "var": jnp.ones(2)}, "kernel": jnp.eye(2)}
SOURCE, TARGET = jax.random.normal(KEY, (6, 2)) + 3, 2 * jax.random.normal(jax.random.key(1), (4, 2)) - 1
BATCH = {"source": {"x": SOURCE, "labels": jnp.arange(6) % 2}, "target": {"x": TARGET}}
PADDED = {"x": jnp.concatenate([TARGET, 1e3 * jnp.ones((2, 2))]), "mask": jnp.arange(6) < 4}


def model(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
    """Batch norm and a matrix."""
    x, norm = batch["x"], params["norm"]
    mean, var = norm["mean"], norm["var"]
    stats = None
    if train:
        mean, var = x.mean(0), x.var(0)
        stats = {"norm": {"mean": 0.75 * norm["mean"] + 0.25 * mean, "var": 0.75 * norm["var"] + 0.25 * var}}
    features = (x - mean) / jnp.sqrt(var + EPS)
    return ft.Outputs(logits=features @ params["kernel"], features=features, stats=stats)


def seen(values: Callable[[Context], Any]) -> Objective:
    """An objective whose metrics are what it is given."""

    def apply(frozen: Any, weights: Any, memory: Any, context: Context) -> Any:
        return 0.0 * context.forward("source").logits.sum(), (memory, values(context))

    return Objective(lambda key, context: ((), (), ()), apply)


BOTH = seen(lambda c: {view: c.forward(view).features for view in ("source", "target")})


def after(policy: str | None, objective: Objective = BOTH, batch: Any = BATCH) -> tuple[Any, dict[str, Any]]:
    """The state and metrics of one step."""
    step = ft.make_step(model, ft.full(), objective, optax.sgd(0.1), statistics=policy)
    frozen, state = step.init(KEY, PARAMS, batch)
    return jax.jit(step.update)(frozen, state, batch)


def normalised(x: Any, of: Any) -> np.ndarray:
    return np.asarray((x - of.mean(0)) / np.sqrt(of.var(0) + EPS))


def moved(*groups: Any) -> np.ndarray:
    """The running mean after steps on these rows."""
    mean = np.zeros(2)
    for rows in groups:
        mean = (1 - MOMENTUM) * mean + MOMENTUM * np.asarray(rows.mean(0))
    return mean


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_joint_normalises_both_as_one_batch() -> None:
    state, found = after("joint")
    together = jnp.concatenate([SOURCE, TARGET])
    close(found["source"], normalised(SOURCE, together))
    close(found["target"], normalised(TARGET, together))
    close(state.stats["norm"]["mean"], moved(together))


def test_joint_takes_the_others_as_they_are_for_a_run_with_changes() -> None:
    _, found = after("joint", seen(lambda c: {"other": c.forward("target", x=TARGET + 1).features}))
    close(found["other"], normalised(TARGET + 1, jnp.concatenate([SOURCE, TARGET + 1])))


def test_joint_refuses_views_without_an_input_in_common() -> None:
    batch = {"source": BATCH["source"], "target": {"x": jnp.ones((3, 4))}}
    with pytest.raises(ft.InputError, match="the same inputs: 'source' has x; 'target' has x"):
        after("joint", seen(lambda c: {"s": c.forward("source").features}), batch)


def test_separate_keeps_statistics_of_each() -> None:
    state, found = after("separate")
    close(found["source"], normalised(SOURCE, SOURCE))
    close(found["target"], normalised(TARGET, TARGET))
    close(ft.statistics_of(state.stats, "source")["norm"]["mean"], moved(SOURCE))
    close(ft.statistics_of(state.stats)["norm"]["mean"], moved(TARGET))
    with pytest.raises(ft.InputError, match="of source, target, but none of 'elsewhere'"):
        ft.statistics_of(state.stats, "elsewhere")


def test_separate_statistics_are_not_merged_without_a_choice() -> None:
    step = ft.make_step(model, ft.full(), BOTH, optax.sgd(0.1), statistics="separate")
    frozen, state = step.init(KEY, PARAMS, BATCH)
    state, _ = step.update(frozen, state, BATCH)
    with pytest.raises(ft.InputError, match="statistics_of"):
        ft.merge(ft.full(), frozen.model, state.delta, stats=state.stats)
    merged = ft.merge(ft.full(), frozen.model, state.delta, stats=ft.statistics_of(state.stats))
    close(merged["norm"]["mean"], moved(TARGET))


def test_separate_states_may_be_donated() -> None:
    step = ft.make_step(model, ft.full(), BOTH, optax.sgd(0.1), statistics="separate")
    frozen, state = step.init(KEY, PARAMS, BATCH)
    update = jax.jit(step.update, donate_argnums=1)
    state, _ = update(frozen, state, BATCH)
    state, _ = update(frozen, state, BATCH)
    close(ft.statistics_of(state.stats)["norm"]["mean"], moved(TARGET, TARGET))


def test_source_normalises_the_target_by_the_statistics_of_the_source() -> None:
    state, found = after("source")
    close(found["source"], normalised(SOURCE, SOURCE))
    running = {"mean": moved(SOURCE), "var": 0.75 + 0.25 * np.asarray(SOURCE.var(0))}
    close(found["target"], (TARGET - running["mean"]) / np.sqrt(running["var"] + EPS))
    close(state.stats["norm"]["mean"], running["mean"])


def test_frozen_statistics_normalise_all_and_stay() -> None:
    state, found = after("frozen")
    close(found["source"], SOURCE / np.sqrt(1 + EPS))
    close(found["target"], TARGET / np.sqrt(1 + EPS))
    np.testing.assert_array_equal(state.stats["norm"]["mean"], 0)


@pytest.mark.parametrize("objective", [BOTH, ft.cross_entropy("source")], ids=["both", "source"])
def test_adabn_has_statistics_of_the_target_whether_or_not_a_term_reads_it(objective: Objective) -> None:
    state, found = after("adabn", objective)
    close(state.stats["norm"]["mean"], moved(TARGET))
    if "source" in found:
        close(found["source"], normalised(SOURCE, SOURCE))


def test_statistics_do_not_mix_without_a_word() -> None:
    with pytest.raises(ft.InputError, match=r"'source', 'target'.*would mix; say whose .*joint, separate"):
        after(None)
    state, _ = after(None, ft.cross_entropy("source"))
    close(state.stats["norm"]["mean"], moved(SOURCE))


def test_statistics_that_do_not_move_need_no_policy_and_take_none() -> None:
    def still(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> ft.Outputs:
        return model(params, batch)._replace(stats={"norm": params["norm"]} if train else None)

    step = ft.make_step(still, ft.full(), BOTH, optax.sgd(0.1))
    frozen, state = step.init(KEY, PARAMS, BATCH)
    state, _ = step.update(frozen, state, BATCH)
    np.testing.assert_array_equal(state.stats["norm"]["mean"], 0)
    step = ft.make_step(still, ft.full(), BOTH, optax.sgd(0.1), statistics="joint")
    with pytest.raises(ft.InputError, match="but these do not; leave it out"):
        step.init(KEY, PARAMS, BATCH)


def plain(params: Any, batch: Any, *, train: bool = False, key: Any = None) -> Any:
    return batch["x"] @ params["kernel"]


@pytest.mark.parametrize(
    ("apply", "policy", "objective", "batch", "message"),
    [
        (model, "jiont", BOTH, BATCH, "no policy 'jiont' for statistics .*joint"),
        (plain, "joint", BOTH, BATCH, "has no running statistics, so leave statistics='joint' out"),
        (model, "separate", ft.cross_entropy(), BATCH["source"], "the whole batch; name views"),
        (model, "adabn", ft.cross_entropy("source"), {"source": BATCH["source"]}, "the view 'target', but the batch"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(
    apply: Any, policy: str, objective: Objective, batch: Any, message: str
) -> None:
    step = ft.make_step(apply, ft.full(), objective, optax.sgd(0.1), statistics=policy)
    with pytest.raises(ft.InputError, match=message):
        step.init(KEY, PARAMS, batch)


@pytest.mark.parametrize("policy", ["joint", "separate", "source", "frozen", "adabn"])
def test_seeds_map_over_every_policy(policy: str) -> None:
    step = ft.make_step(model, ft.full(), BOTH, optax.sgd(0.1), statistics=policy)

    def run(key: Any) -> Any:
        frozen, state = step.init(key, PARAMS, BATCH)
        return step.update(frozen, state, BATCH)[0].stats

    mapped = jax.jit(jax.vmap(run))(jax.random.split(KEY, 2))
    jax.tree.map(lambda many, one: close(many[1], one), mapped, run(KEY))


def test_adabn_after_training_takes_the_statistics_of_all_batches() -> None:
    adapted = ft.adabn(model, PARAMS, [{"x": TARGET[:3]}, {"x": TARGET[3:]}])
    close(adapted["norm"]["mean"], TARGET.mean(0))
    close(adapted["norm"]["var"], TARGET.var(0))
    assert adapted["kernel"] is PARAMS["kernel"]


def test_adabn_leaves_padding_out() -> None:
    close(ft.adabn(model, PARAMS, [PADDED])["norm"]["mean"], TARGET.mean(0))


def test_adabn_of_a_real_net_normalises_every_layer_by_the_target() -> None:
    net = ft.small_convnet(8, num_labels=3, norm=True)
    pixels = 3 * jax.random.uniform(KEY, (64, 8, 8, 1)) + 1
    adapted = ft.adabn(net.apply, net.params, [{"pixels": pixels}])
    trained = net.apply(net.params, {"pixels": pixels}, train=True).logits
    fresh = net.apply(net.params, {"pixels": pixels}).logits
    away = jnp.abs(net.apply(adapted, {"pixels": pixels}).logits - trained).max()
    assert away < 0.01 * jnp.abs(fresh - trained).max()  # running variances are unbiased: by one in 256 values


@pytest.mark.parametrize(
    ("apply", "batches", "message"),
    [
        (model, [], "no row of the target"),
        (model, [{"x": TARGET, "mask": jnp.zeros(4, bool)}], "no row of the target"),
        (plain, [{"x": TARGET}], "has none that do"),
    ],
)
def test_adabn_refuses(apply: Any, batches: Any, message: str) -> None:
    with pytest.raises(ft.InputError, match=message):
        ft.adabn(apply, PARAMS, batches)
