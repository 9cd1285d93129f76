"""The training step: a pure function of an adaptation, an objective and an optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.errors import InputError
from jaxft.train.forward import Forward
from jaxft.train.statistics import check_policy
from jaxft.train.turns import start, take_parts
from jaxft.train.unread import check_added
from jaxft.trees import leaf_paths, map_with_path, partition
from jaxft.types import (
    Adaptation,
    Batch,
    Context,
    Delta,
    DomainStatistics,
    Key,
    Metrics,
    Objective,
    Params,
    PyTree,
    Step,
    StepFrozen,
    TrainState,
)
from jaxft.weights import lift


def make_step(
    model_apply: Callable[..., Any],
    adaptation: Adaptation,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    statistics: str | None = None,
) -> Step:
    """Builds a training step, two pure functions that the caller jits, vmaps and shards.

    Only what learns, ``{"delta": …, "weights": …}``, is differentiated; the frozen arrays are an argument.

    Batch norm whose running statistics move in training needs a policy where the objective runs several views, the
    domains of a shift; ``statistics`` names it:

    - "joint": all views are one batch, normalised together; the statistics are of all.
    - "separate": each view is normalised by its own rows and has statistics of its own, of which `statistics_of` gives
      those to evaluate with.
    - "source": the statistics are of all views but "target", which is run as in evaluation, normalised by them.
    - "frozen": every view is run as in evaluation; the statistics stay as they are.
    - "adabn": each view is normalised by its own rows; the statistics are of the view "target" alone, which is run for
      them even where no term reads it.

    Turns of an objective read the statistics and do not move them.

    Args:
        model_apply: ``(params, batch, *, train=False, key=None) -> Outputs``, or an array, taken as logits.
        adaptation: what learns, and how it enters the model.
        objective: what is minimised.
        optimizer: an optax transformation over ``{"delta": …, "weights": …}``.
        statistics: None for a model without moving statistics, or an objective that runs one view.

    Raises:
        InputError: at ``init``: there is no such policy, it does not fit the model, or statistics would mix domains
            without one.

    Example:
        >>> import jaxft as ft
        >>> def model(params, batch, *, train=False, key=None):
        ...     return batch["x"] @ params["kernel"]
        >>> step = make_step(model, ft.full(), ft.cross_entropy(), optax.sgd(0.1))
        >>> batch = {"x": jnp.ones((2, 3)), "labels": jnp.array([0, 1])}
        >>> frozen, state = step.init(jax.random.key(0), {"kernel": jnp.zeros((3, 2))}, batch)
        >>> state, metrics = jax.jit(step.update)(frozen, state, batch)
        >>> round(float(metrics["loss"]), 4)
        0.6931

    References:
        Li et al., "Revisiting Batch Normalization for Practical Domain Adaptation", 2016 (adabn). Chang et al.,
        "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation", 2019 (separate).
    """
    apply = lift(model_apply)

    def init(key: Key, params: Params, batch: Batch) -> tuple[StepFrozen, TrainState]:
        params, stats = _take_stats(model_apply, adaptation, objective, params, batch, statistics)
        adapt_key, objective_key, state_key = jax.random.split(key, 3)
        frozen, delta = adaptation.init(adapt_key, params)
        delta = jax.tree.map(jnp.copy, delta)  # so that a donated state never takes the caller's params with it
        init_key, forward_key, context_key = jax.random.split(objective_key, 3)
        bound = adaptation.bind(frozen, delta)

        def context(params: Params) -> Context:
            bind = functools.partial(adaptation.bind, frozen)
            forward = Forward(apply, params, stats, batch, forward_key, bind, statistics)
            return Context(forward, batch, delta, jnp.zeros((), jnp.int32), context_key)

        objective_frozen, weights, memory = objective.init(init_key, context(bound))
        check_added(lambda bound: objective.apply(objective_frozen, weights, memory, context(bound))[0], params, bound)
        opt_state = start(objective, optimizer, {"delta": delta, "weights": weights})
        state = TrainState(jnp.zeros((), jnp.int32), delta, weights, memory, stats, opt_state, state_key)
        return StepFrozen(frozen, objective_frozen), state

    def update(frozen: StepFrozen, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def context(delta: Delta, key: Key) -> Context:
            bind_key, forward_key, objective_key = jax.random.split(key, 3)
            params = adaptation.bind(frozen.model, delta, key=bind_key)
            bind = functools.partial(adaptation.bind, frozen.model)
            forward = Forward(apply, params, state.stats, batch, forward_key, bind, statistics)
            return Context(forward, batch, delta, state.step, objective_key)

        key = jax.random.fold_in(state.key, state.step)
        new, metrics = take_parts(objective, optimizer, frozen.objective, state, context, key)
        if "step" in metrics:
            raise InputError("the objective names a metric 'step', as the step does; rename the term or metric")
        return new._replace(step=state.step + 1), metrics

    return Step(init, update)


def _take_stats(
    model_apply: Callable[..., Any],
    adaptation: Adaptation,
    objective: Objective,
    params: Params,
    batch: Batch,
    policy: str | None,
) -> tuple[Params, PyTree]:
    """Takes the leaves that the model returns as running statistics out of the params: no gradient reaches them."""
    moved: dict[str | None, bool] = {}

    def probe(params: Params, batch: Batch) -> PyTree:
        key = jax.random.key(0)
        forward = Forward(model_apply, params, None, batch, key, lambda _: params)
        _, delta = adaptation.init(key, params)
        context = Context(forward, batch, delta, jnp.zeros((), jnp.int32), key)
        objective.apply(*objective.init(key, context), context)
        moved.update(forward.moved)
        return forward.found

    names = jax.eval_shape(probe, params, batch)
    check_policy(policy, moved, batch)
    if not names:
        return params, None
    stats, rest = partition(params, map_with_path(lambda path, _: path in names, params))
    missing = names.keys() - leaf_paths(stats).keys()
    if missing:
        raise InputError(f"the model returns running statistics at {sorted(missing)}, which its params do not have")
    if policy == "separate":
        # Copies, so that no two leaves of the state are one array: a donated state must not hold any twice.
        views = [view for view in moved if view is not None]
        return rest, DomainStatistics({view: jax.tree.map(jnp.copy, stats) for view in views})
    return rest, stats
