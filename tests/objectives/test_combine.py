"""The weighted sum of objectives: values, schedules, what is logged, and what is shared."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft as ft
from tests.objectives.contexts import context

BATCH = {"source": {"labels": jnp.array([0, 1])}, "pairs": {"labels": jnp.array([1.0, 3.0])}}
LOGITS = {"source": jnp.zeros((2, 2)), "pairs": jnp.zeros((2, 1))}
TASK, FIT = float(np.log(2)), 5.0


def parts(objective: ft.Objective, step: int = 0) -> tuple[float, Any]:
    inner = context(BATCH, LOGITS, step)
    loss, (_, metrics) = objective.apply(*objective.init(jax.random.key(0), inner), inner)
    return float(loss), metrics


def test_it_is_the_weighted_sum_and_logs_raw_and_weighted() -> None:
    objective = ft.combine(task=ft.cross_entropy("source"), fit=(ft.mean_squared_error("pairs"), 0.1))
    loss, metrics = parts(objective)
    assert loss == pytest.approx(TASK + 0.1 * FIT)
    found = {name: pytest.approx(float(value)) for name, value in metrics.items()}
    assert found == {
        "task": TASK,
        "task/weight": 1.0,
        "task/weighted": TASK,
        "task/accuracy": 0.5,
        "fit": FIT,
        "fit/weight": 0.1,
        "fit/weighted": 0.1 * FIT,
    }


def test_a_schedule_reads_the_step() -> None:
    objective = ft.combine(fit=(ft.mean_squared_error("pairs"), optax.linear_schedule(0.0, 1.0, 10)))
    assert [parts(objective, step)[0] for step in (0, 5, 10, 20)] == pytest.approx([0, FIT / 2, FIT, FIT])


def test_a_weight_may_be_traced() -> None:
    def loss(weight: Any) -> Any:
        objective = ft.combine(fit=(ft.mean_squared_error("pairs"), weight))
        return objective.apply(*objective.init(jax.random.key(0), CONTEXT), CONTEXT)[0]

    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(jnp.array([0.0, 2.0])), [0.0, 2 * FIT])


CONTEXT = context(BATCH, LOGITS)


def test_combinations_nest() -> None:
    inner = ft.combine(fit=(ft.mean_squared_error("pairs"), 2.0))
    loss, metrics = parts(ft.combine(task=ft.cross_entropy("source"), rest=(inner, 0.5)))
    assert loss == pytest.approx(TASK + FIT)
    assert metrics["rest/fit"] == FIT


@pytest.mark.parametrize("term", [3.0, (ft.cross_entropy(),), (ft.cross_entropy(), "0.1"), (0.1, ft.cross_entropy())])
def test_other_terms_are_refused(term: Any) -> None:
    with pytest.raises(ft.InputError, match="the term 'task' must be an objective or a pair"):
        ft.combine(task=term)


@pytest.mark.parametrize("weight", [np.float32(0.5), np.array(0.5), jnp.float32(0.5)])
def test_a_weight_may_be_any_number(weight: Any) -> None:
    assert parts(ft.combine(fit=(ft.mean_squared_error("pairs"), weight)))[0] == pytest.approx(0.5 * FIT)


def test_two_metrics_of_one_name_are_refused() -> None:
    inner = ft.combine(weight=ft.mean_squared_error("pairs"))
    with pytest.raises(ft.InputError, match="both named 'rest/weight'"):
        parts(ft.combine(rest=inner))


def test_no_term_is_refused() -> None:
    with pytest.raises(ft.InputError, match="at least one named term"):
        ft.combine()
