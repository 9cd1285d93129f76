"""Runs of a domain shift, whole in one compiled program, measured as they learn; experiments import it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxft as ft

Views = Mapping[str, Any]


class Method(NamedTuple):
    """A way to adapt, from a net that is new or one that the source has trained.

    Attributes:
        objective: (the steps there are, the weight of its own) -> what is minimised, over the views "source" and
            "target".
        weights: candidates for its weight, among which a run without target labels chooses.
        adaptation: what learns.
        begin: None for a new net, or the steps that the source alone trains it for first.
        before: what learns in these steps; merged when they are done.
        norm: whether the net has batch norm.
        statistics: whose, as `ft.make_step` says.
        optimizer: of the adaptation; that of the setting if None.
    """

    objective: Callable[[int, Any], ft.Objective]
    weights: tuple[float, ...] = (1.0,)
    adaptation: ft.Adaptation = ft.full()
    begin: int | None = None
    before: ft.Adaptation = ft.full()
    norm: bool = False
    statistics: str | None = None
    optimizer: optax.GradientTransformation | None = None


class Setting(NamedTuple):
    """What all methods share.

    Attributes:
        model: (seed, whether with batch norm) -> a new net.
        source: the columns of the source's training rows, labels among them.
        target: the columns of the target's training rows, without labels.
        measured: name -> columns without labels of rows whose logits and features are wanted.
        optimizer: of every method that names no other.
        steps: updates.
        every: steps between two measurements.
        batch_size: rows a step of each domain.
        known: the columns of the target's few labelled rows, all of them in every step; None without.
    """

    model: Callable[[Any, bool], ft.Model]
    source: Views
    target: Views
    measured: Mapping[str, Views]
    optimizer: optax.GradientTransformation
    steps: int = 600
    every: int = 60
    batch_size: int = 64
    known: Views | None = None


class History(NamedTuple):
    """What was measured of a run.

    Attributes:
        steps: the updates made before each measurement, ``[points]``.
        outputs: name -> logits and features, ``[points, rows, …]``.
        seconds: of the run, compiling left out.
    """

    steps: np.ndarray
    outputs: dict[str, tuple[np.ndarray, np.ndarray]]
    seconds: float


class Program:
    """A method's whole run, compiled once for every seed and weight."""

    def __init__(self, method: Method, setting: Setting):
        data = _columns(setting)
        whole = jax.jit(lambda seed, weight, data: _run(method, setting, seed, weight, *data))
        self._compiled, self._data = whole.lower(jnp.uint32(0), jnp.float32(1), data).compile(), data
        self._points = np.arange(setting.every, setting.steps + 1, setting.every)

    def on(self, setting: Setting) -> Program:
        """The same program on other rows, as many of them."""
        other = copy(self)
        other._data = _columns(setting)
        return other

    def history(self, seed: int, weight: float) -> History:
        """One run."""
        began = time.perf_counter()
        outputs = jax.device_get(self._compiled(jnp.uint32(seed), jnp.float32(weight), self._data))
        return History(self._points, outputs, time.perf_counter() - began)

    def histories(self, runs: Sequence[tuple[int, float]]) -> list[History]:
        """A run for each seed and weight; two threads call the program side by side."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda run: self.history(*run), runs))


def chosen(history: History, held_out: Any, labels: Any, criterion: str) -> dict[str, float]:
    """Accuracy on the part "test" after the last step, at the moment a criterion chooses, and at the best.

    Args:
        history: with the parts "held out", "unlabelled" and "test".
        held_out: labels of the rows "held out", of the source.
        labels: of the test rows; the criterion does not see them.
        criterion: of `ft.shift.select`.
    """
    sources = [ft.shift.Labelled(f, z, held_out) for z, f in zip(*history.outputs["held out"], strict=True)]
    targets = [ft.shift.Unlabelled(f, z) for z, f in zip(*history.outputs["unlabelled"], strict=True)]
    accuracy = [ft.shift.oracle_accuracy(logits, labels) for logits in history.outputs["test"][0]]
    place = ft.shift.select(sources, targets, criterion=criterion)
    return {"last": accuracy[-1], "selected": accuracy[place], "oracle": max(accuracy)}


def _columns(setting: Setting) -> Any:
    """The rows of a run, which the compiled program takes as arguments."""
    always = {} if setting.known is None else {"known": setting.known}
    return jax.tree.map(jnp.asarray, ({"source": setting.source, "target": setting.target}, always, setting.measured))


def _run(method: Method, setting: Setting, seed: Any, weight: Any, drawn: Any, always: Any, measured: Any) -> Any:
    first_key, second_key = jax.random.split(jax.random.key(seed))
    model = setting.model(seed, method.norm)
    params = model.params
    if method.begin is not None:
        plain = Method(lambda *_: ft.cross_entropy("source"), adaptation=method.before, norm=method.norm)
        params, _ = _train(plain, setting, model, params, first_key, drawn, always, {}, method.begin, weight)
    _, outputs = _train(method, setting, model, params, second_key, drawn, always, measured, setting.steps, weight)
    return outputs


def _train(
    method: Method,
    setting: Setting,
    model: ft.Model,
    params: Any,
    key: Any,
    drawn: Any,
    always: Any,
    measured: Any,
    steps: int,
    weight: Any,
) -> Any:
    """The params after so many steps, and what was measured on the way."""
    init_key, source_key, target_key = jax.random.split(key, 3)
    size, every = setting.batch_size, setting.every
    keys = {"source": source_key, "target": target_key}
    orders = {view: _order(keys[view], columns, steps * size) for view, columns in drawn.items()}

    def batch(index: Any) -> dict[str, Any]:
        rows = {view: jax.lax.dynamic_slice(order, (index * size,), (size,)) for view, order in orders.items()}
        return always | {view: jax.tree.map(lambda column, view=view: column[rows[view]], drawn[view]) for view in rows}

    optimizer = method.optimizer or setting.optimizer
    objective = method.objective(steps, weight)
    step = ft.make_step(model.apply, method.adaptation, objective, optimizer, statistics=method.statistics)
    frozen, state = step.init(init_key, params, batch(0))

    def params_of(state: ft.TrainState, bind: Callable[..., Any]) -> Any:
        params = bind(frozen.model, state.delta)
        stats = ft.statistics_of(state.stats)
        return params if stats is None else ft.join(stats, params)

    def stretch(state: ft.TrainState, first: Any) -> Any:
        state, _ = jax.lax.scan(lambda state, index: step.update(frozen, state, batch(index)), state, first + places)
        params = params_of(state, method.adaptation.bind)
        found = {name: model.apply(params, part) for name, part in measured.items()}
        return state, {name: (outputs.logits, outputs.features) for name, outputs in found.items()}

    places = jnp.arange(every)
    state, outputs = jax.lax.scan(stretch, state, jnp.arange(steps // every) * every)
    return params_of(state, partial(ft.merge, method.adaptation)), outputs


def _order(key: Any, columns: Views, count: int) -> Any:
    """So many rows, epoch after epoch, each in an order of its own."""
    rows = len(jax.tree.leaves(columns)[0])
    epochs = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, -(-count // rows)))
    return epochs.reshape(-1)[:count]
