"""A whole run as one function of its traced settings: what starts, every step, every evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from jaxft.adapt import MaskedRank
from jaxft.errors import InputError
from jaxft.study.constants import arrays_in, contents, known_arrays, made_with
from jaxft.study.experiment import Experiment, check_experiment, step_of, structure_of, task_of
from jaxft.study.feed import Feed, feed
from jaxft.study.keys import canonical
from jaxft.study.memory import device_bytes
from jaxft.study.predictions import predict_rows
from jaxft.study.prefix_program import products
from jaxft.study.prepare import Prepared, prepare
from jaxft.study.start import first_batch, first_state, start_of
from jaxft.train import statistics_of
from jaxft.trees import fingerprint, join, leaf_paths
from jaxft.types import Adaptation, Array, Params, StepFrozen, TrainState
from jaxft.weights import lift

Build = Callable[[Any], Experiment]
_NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


class Outcome(NamedTuple):
    """What a run computes.

    Attributes:
        metrics: of every step, ``[steps]`` each.
        predictions: of each held-out part, ``[evaluations, …]``; see `predict_rows`.
        digest: ``[leaves, 2]`` hashes of the learned arrays; see `digest`.
    """

    metrics: dict[str, Any]
    predictions: dict[str, Any]
    digest: Any


class Facts(NamedTuple):
    """What is known of every run of one structure before it runs.

    Attributes:
        task: how predictions are measured.
        points: the steps after which it is evaluated.
        labels: of each held-out part.
        base: fingerprint of all arrays that runs start from or read: params that are no function of seed and traced
            settings, what the others are computed from, a teacher, and what model, objective and adaptation hold.
        built: what shapes the run beside them: the structure of the experiment, and what ``build`` was made with.
        data: fingerprint of all rows.
        nbytes: size of all rows.
        trained: how many numbers learn, those of a masked rank counted as if it were the largest.
        prepared: the rows, for whoever traces the run next; None where they would take too much memory.
    """

    task: str
    points: tuple[int, ...]
    labels: dict[str, np.ndarray]
    base: str
    built: dict[str, Any]
    data: str
    nbytes: int
    trained: int
    prepared: Prepared | None


class Trace(NamedTuple):
    """The runs of one structure as a jaxpr.

    Attributes:
        jaxpr: from the traced settings, in the order of ``names``, to the leaves of an Outcome.
        constants: base params and data, which all runs share.
        names: the traced settings.
        tree: the structure of an Outcome.
        flops: of the matrix products and convolutions of a step; None where they are not counted.
        prefix: the share of the forward pass that is computed once for all runs, 0 to 1.
    """

    jaxpr: Any
    constants: list[Any]
    names: tuple[str, ...]
    tree: Any
    flops: float | None
    prefix: float

    @property
    def nbytes(self) -> int:
        """The size of the constants."""
        return sum(np.dtype(constant.dtype).itemsize * constant.size for constant in map(jnp.asarray, self.constants))


def describe(
    build: Build, config: Any, names: Sequence[str], masked: Mapping[str, int], prepared: Prepared | None = None
) -> Facts:
    """What the runs of a configuration have in common; nothing is trained.

    Args:
        build: config -> Experiment.
        config: the values of the traced settings do not matter, only their types.
        names: the settings that are traced: floats, the seed, masked ranks.
        masked: name -> the largest rank.
        prepared: its rows, where a run of the same structure was described; tokenised and padded here if None.

    Raises:
        InputError: build needs the value of a traced setting, or what it returns cannot be run.
    """
    found: list[tuple[Facts, Params, list[Any]]] = []

    def look(values: dict[str, Array]) -> Any:
        experiment = check_experiment(_build(build, config, values, masked))
        rows = prepare(experiment) if prepared is None else prepared
        facts, frozen, state = _facts(experiment, rows)
        base = {path: leaf for path, leaf in leaf_paths(experiment.model.params).items() if _is_known(leaf)}
        found.append((facts, base, list(_held_arrays(experiment, rows, frozen, state))))
        return [leaf for leaf in jax.tree.leaves((experiment.model.params, frozen, state)) if not _is_known(leaf)]

    closed = jax.make_jaxpr(look)(_example(config, names))
    facts, base, held = found[-1]
    constants = contents([*held, *arrays_in(closed)], without=base.values())
    built = {**facts.built, "made_with": fingerprint(_as_leaf([canonical(made_with(build))]))}
    return facts._replace(base=fingerprint({"params": base, "constants": _as_leaf(constants)}), built=built)


def _as_leaf(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer(" ".join(texts).encode(), np.uint8)


def trace(
    build: Build, config: Any, names: Sequence[str], masked: Mapping[str, int], prepared: Prepared | None = None
) -> Trace:
    """Traces the whole run of a configuration; the arguments are those of `describe`.

    Raises:
        InputError: as `describe`.
    """
    found: list[tuple[float, float]] = []

    def run(values: dict[str, Array]) -> Outcome:
        experiment = check_experiment(_build(build, config, values, masked))
        outcome, *costs = _run(experiment, prepare(experiment) if prepared is None else prepared)
        found.append((costs[0], costs[1]))
        return outcome

    closed, shape = jax.make_jaxpr(run, return_shape=True)(_example(config, names))
    return Trace(closed.jaxpr, list(closed.consts), tuple(sorted(names)), jax.tree.structure(shape), *found[-1])


def _example(config: Any, names: Sequence[str]) -> dict[str, jax.ShapeDtypeStruct]:
    kinds: dict[Any, Any] = {int: jnp.int32}
    types = {
        name: jnp.uint32 if name == "seed" else kinds.get(type(getattr(config, name)), jnp.float32) for name in names
    }
    return {name: jax.ShapeDtypeStruct((), types[name]) for name in sorted(names)}


def _build(build: Build, config: Any, values: Mapping[str, Array], masked: Mapping[str, int]) -> Any:
    """Calls build with tracers in place of the traced settings; whatever does not depend on them is computed now."""
    changes = {name: MaskedRank(value, masked[name]) if name in masked else value for name, value in values.items()}
    try:
        with jax.ensure_compile_time_eval():
            return build(dataclasses.replace(config, **changes))
    except (*_NEEDS_A_VALUE, TypeError, ValueError) as error:
        if not isinstance(error, _NEEDS_A_VALUE) and "Tracer" not in str(error):
            raise
        raise InputError(
            f"build uses the value of one of the settings {', '.join(sorted(values))}, which vary inside one program "
            "and so are traced. Let it only enter arithmetic; or make it structure, by declaring the field an int or a "
            f"str, or by structure=[…]. It happened here: {str(error).splitlines()[0]}"
        ) from error


def _run(experiment: Experiment, prepared: Prepared) -> tuple[Outcome, float, float]:
    """A run, the operations of a step, and the share of the forward pass that is computed once for all runs."""
    with jax.ensure_compile_time_eval():
        start = start_of(experiment, prepared, limit=device_bytes() // 2)
        columns, held_out = jax.tree.map(jnp.asarray, start.prepared)
    init_key, order_key = jax.random.split(jax.random.key(experiment.seed))
    stream = feed(columns, order_key, batch_size=experiment.batch_size, chosen=experiment.rows)
    step = step_of(experiment, start.train)
    first = stream.batch(stream.start(), 0)
    frozen, state = step.init(init_key, experiment.model.params, first)
    update, flops = traced_once(partial(step.update, frozen), state, first)
    evaluation = partial(
        evaluate_state, start.measure, experiment.adaptation, task_of(experiment), frozen, held_out=held_out
    )
    every = experiment.evaluate_every or experiment.steps
    state, metrics, predictions = _steps(update, state, stream, evaluation, experiment.steps, every)
    return Outcome(metrics, predictions, digest(state.delta)), flops, start.saved


def traced_once(update: Callable[..., Any], state: TrainState, batch: Any) -> tuple[Callable[..., Any], float]:
    """The update as a function that is not traced anew where it is used, and the operations of its products.

    Args:
        update: a step's, of state and batch.
        state: values or shapes.
        batch: likewise.
    """
    closed, shape = jax.make_jaxpr(update, return_shape=True)(state, batch)
    program, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    tree = jax.tree.structure(shape)

    def again(state: TrainState, batch: Any) -> Any:
        leaves = jax.core.eval_jaxpr(program, closed.consts, *jax.tree.leaves((state, batch)))
        return jax.tree.unflatten(tree, leaves)

    return again, 2.0 * sum(map(products, program.eqns))


def _steps(
    step: Callable[..., Any],
    state: TrainState,
    stream: Feed,
    evaluation: Callable[[TrainState], Any],
    steps: int,
    every: int,
) -> tuple[TrainState, Any, Any]:
    """All updates, in stretches that each end with an evaluation."""

    def update(carry: Any, index: Array) -> Any:
        state, epochs = carry
        state, metrics = step(state, stream.batch(epochs, index))
        return (state, stream.advance(epochs, index)), metrics

    def stretch(carry: Any, first: Array, length: int) -> Any:
        carry, metrics = jax.lax.scan(update, carry, first + jnp.arange(length))
        return carry, (metrics, evaluation(carry[0]))

    whole, rest = divmod(steps, every)
    carry: Any = (state, stream.start())
    parts = []
    if whole:
        firsts = jnp.arange(whole) * every
        carry, (metrics, predictions) = jax.lax.scan(lambda c, first: stretch(c, first, every), carry, firsts)
        parts.append((jax.tree.map(lambda m: m.reshape(-1), metrics), predictions))
    if rest:
        carry, (metrics, predictions) = stretch(carry, jnp.int32(whole * every), rest)
        parts.append((metrics, jax.tree.map(lambda p: p[None], predictions)))
    metrics, predictions = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return carry[0], metrics, predictions


def evaluate_state(
    apply: Callable[..., Any],
    adaptation: Adaptation,
    task: str,
    frozen: StepFrozen,
    state: TrainState,
    held_out: Mapping[str, Mapping[str, Array]],
) -> dict[str, Any]:
    """Predictions of every held-out part, as `predict_rows` says."""
    params: Params = adaptation.bind(frozen.model, state.delta)
    stats = statistics_of(state.stats)
    if stats is not None:
        params = join(stats, params)
    lifted = lift(apply)
    return {name: predict_rows(lifted, params, columns, task) for name, columns in held_out.items()}


def _is_known(leaf: Any) -> bool:
    return not isinstance(leaf, jax.core.Tracer)


def _facts(experiment: Experiment, prepared: Prepared) -> tuple[Facts, StepFrozen, TrainState]:
    """The facts, of which the base is not known yet, and what a step starts with."""
    every = experiment.evaluate_every or experiment.steps
    points = sorted({*range(every, experiment.steps + 1, every), experiment.steps})
    frozen, state = first_state(experiment, prepared)
    facts = Facts(
        task_of(experiment),
        tuple(points),
        {name: columns["labels"] for name, columns in prepared.held_out.items()},
        "",
        structure_of(experiment),
        fingerprint([{str(view): columns for view, columns in prepared.train.items()}, prepared.held_out]),
        prepared.nbytes,
        sum(leaf.size for leaf in jax.tree.leaves(state.delta)),
        prepared,
    )
    return facts, frozen, state


def _held_arrays(experiment: Experiment, prepared: Prepared, frozen: StepFrozen, state: TrainState) -> Iterator[Any]:
    """The arrays with a value that a step and an evaluation start from or have as constants; nothing is computed."""
    yield from known_arrays(jax.tree.leaves((frozen, state)))
    apply = experiment.model.apply
    update = partial(step_of(experiment, apply).update, frozen)
    yield from arrays_in(jax.make_jaxpr(update)(state, first_batch(experiment, prepared)))
    measure = partial(evaluate_state, apply, experiment.adaptation, task_of(experiment), frozen)
    yield from arrays_in(jax.make_jaxpr(measure)(state, prepared.held_out))


def digest(tree: Any) -> Array:
    """Two hashes of every leaf, ``[leaves, 2]`` in path order: equal arrays have equal digests, others hardly ever.

    Args:
        tree: floating-point arrays.
    """
    rows = []
    for _, leaf in sorted(leaf_paths(tree).items()):
        kind = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)  # of float64 two each
        bits = jax.lax.bitcast_convert_type(leaf, kind).astype(jnp.uint32).reshape(-1)
        places = jnp.arange(bits.size, dtype=jnp.uint32)
        mixed = [_mixed(bits ^ _mixed(places + jnp.uint32(salt))) for salt in (1, 0x9E3779B9)]
        rows.append(jnp.stack([jnp.sum(hashes, dtype=jnp.uint32) for hashes in mixed]))
    return jnp.stack(rows)


def _mixed(bits: Array) -> Array:
    """Spreads every bit over all: the finaliser of MurmurHash3."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)
