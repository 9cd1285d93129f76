"""The training step: a pure function of an adaptation, an objective and an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.errors import InputError
from jaxft.train.unread import check_added
from jaxft.trees import join, leaf_paths, map_with_path, partition
from jaxft.types import (
    PREFIX,
    Adaptation,
    Batch,
    Context,
    Delta,
    Key,
    Metrics,
    Objective,
    Outputs,
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
) -> Step:
    """Builds a training step, two pure functions that the caller jits, vmaps and shards.

    Only what learns, ``{"delta": …, "weights": …}``, is differentiated; the frozen arrays are an argument.

    Args:
        model_apply: ``(params, batch, *, train=False, key=None) -> Outputs``, or an array, taken as logits.
        adaptation: what learns, and how it enters the model.
        objective: what is minimised.
        optimizer: an optax transformation over ``{"delta": …, "weights": …}``.

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
    """
    apply = lift(model_apply)

    def init(key: Key, params: Params, batch: Batch) -> tuple[StepFrozen, TrainState]:
        params, stats = _take_stats(model_apply, adaptation, objective, params, batch)
        adapt_key, objective_key, state_key = jax.random.split(key, 3)
        frozen, delta = adaptation.init(adapt_key, params)
        delta = jax.tree.map(jnp.copy, delta)  # so that a donated state never takes the caller's params with it
        init_key, forward_key, context_key = jax.random.split(objective_key, 3)
        bound = adaptation.bind(frozen, delta)

        def context(params: Params) -> Context:
            forward = _Forward(apply, params, stats, batch, forward_key, lambda other: adaptation.bind(frozen, other))
            return Context(forward, batch, delta, jnp.zeros((), jnp.int32), context_key)

        objective_frozen, weights, memory = objective.init(init_key, context(bound))
        check_added(lambda bound: objective.apply(objective_frozen, weights, memory, context(bound))[0], params, bound)
        opt_state = optimizer.init({"delta": delta, "weights": weights})
        state = TrainState(jnp.zeros((), jnp.int32), delta, weights, memory, stats, opt_state, state_key)
        return StepFrozen(frozen, objective_frozen), state

    def update(frozen: StepFrozen, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        bind_key, forward_key, objective_key = jax.random.split(jax.random.fold_in(state.key, state.step), 3)

        def loss_of(learned: dict[str, PyTree]) -> tuple[jax.Array, Any]:
            params = adaptation.bind(frozen.model, learned["delta"], key=bind_key)
            forward = _Forward(
                apply, params, state.stats, batch, forward_key, lambda other: adaptation.bind(frozen.model, other)
            )
            context = Context(forward, batch, learned["delta"], state.step, objective_key)
            loss, (memory, metrics) = objective.apply(frozen.objective, learned["weights"], state.memory, context)
            return loss, (memory, metrics, forward.stats)

        learned = {"delta": state.delta, "weights": state.weights}
        (loss, (memory, metrics, stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(learned)
        updates, opt_state = optimizer.update(gradient, state.opt_state, learned)
        learned = optax.apply_updates(learned, updates)
        new = TrainState(state.step + 1, learned["delta"], learned["weights"], memory, stats, opt_state, state.key)
        ours = {"loss": loss, "grad_norm": optax.tree.norm(gradient)}
        if clash := sorted({"step", *ours} & metrics.keys()):
            raise InputError(f"the objective names a metric {clash[0]!r}, as the step does; rename the term or metric")
        return new, ours | metrics

    return Step(init, update)


class _Forward:
    """Runs the bound model on views of the batch, once each; running statistics pass from one run to the next.

    A view has one key: a run with changed inputs drops the same units as the run without, unless it names a key. A run
    with another delta is of another model: it reads the running statistics of this one and leaves them as they are.
    ``stats`` are those of now, ``found`` what the model returned, by path.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        params: Params,
        stats: PyTree,
        batch: Batch,
        key: Key,
        bind: Callable[[Delta], Params],
    ):
        self._apply, self._params, self._batch, self._key, self._bind = apply, params, batch, key, bind
        self.stats, self.found = stats, dict[str, jax.Array]()
        self._cache: dict[str | None, Outputs] = {}
        self._order: dict[str | None, int] = {}

    def __call__(
        self,
        view: str | None = None,
        *,
        train: bool = True,
        key: Key | None = None,
        delta: Delta | None = None,
        **changes: Any,
    ) -> Outputs:
        plain = train and key is None and delta is None and not changes
        if plain and view in self._cache:
            return self._cache[view]
        if view is not None and view not in self._batch:
            raise InputError(f"the objective reads the view {view!r}, but the batch has {sorted(self._batch)}")
        inputs = _for_the_model({**(self._batch if view is None else self._batch[view]), **changes})
        if changes.keys() - {PREFIX}:
            inputs.pop(PREFIX, None)  # these are the activations of the inputs as they were
        of_view = jax.random.fold_in(self._key, self._order.setdefault(view, len(self._order)))
        params = self._params if delta is None else self._bind(delta)
        params = params if self.stats is None else join(self.stats, params)
        outputs = as_outputs(self._apply(params, inputs, train=train, key=of_view if key is None else key))
        if train and delta is None and outputs.stats is not None:
            self.found |= leaf_paths(jax.lax.stop_gradient(outputs.stats))
            self.stats = map_with_path(lambda path, leaf: self.found.get(path, leaf), self.stats)
        if plain:
            self._cache[view] = outputs
        return outputs


def _for_the_model(batch: Batch) -> dict[str, Any]:
    """The batch, or each of its views, without labels and mask."""
    return {
        name: _for_the_model(value) if isinstance(value, Mapping) else value
        for name, value in batch.items()
        if name not in ("labels", "mask")
    }


def as_outputs(result: Any) -> Outputs:
    """Takes a bare array from a plain function as logits."""
    return result if isinstance(result, Outputs) else Outputs(logits=result)


def _take_stats(
    model_apply: Callable[..., Any], adaptation: Adaptation, objective: Objective, params: Params, batch: Batch
) -> tuple[Params, PyTree]:
    """Takes the leaves that the model returns as running statistics out of the params: no gradient reaches them."""

    def probe(params: Params, batch: Batch) -> PyTree:
        key = jax.random.key(0)
        forward = _Forward(model_apply, params, None, batch, key, lambda _: params)
        _, delta = adaptation.init(key, params)
        context = Context(forward, batch, delta, jnp.zeros((), jnp.int32), key)
        objective.apply(*objective.init(key, context), context)
        return forward.found

    names = jax.eval_shape(probe, params, batch)
    if not names:
        return params, None
    stats, rest = partition(params, map_with_path(lambda path, _: path in names, params))
    missing = names.keys() - leaf_paths(stats).keys()
    if missing:
        raise InputError(f"the model returns running statistics at {sorted(missing)}, which its params do not have")
    return rest, stats
