"""The parts of one update: the turns before the main part, the main part, and those after it."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from jaxft.errors import InputError
from jaxft.train.forward import Forward
from jaxft.trees import join, partition, select
from jaxft.types import Array, Context, Delta, Frozen, Key, Mask, Memory, Metrics, Objective, PyTree, TrainState, Turn

Learned = dict[str, PyTree]
MakeContext = Callable[[Delta, Key], Context]


class TurnStates(NamedTuple):
    """The optimizer's state of an objective with turns.

    Attributes:
        main: of the main part.
        turns: of each turn.
    """

    main: Any
    turns: tuple[Any, ...]


class _Part(NamedTuple):
    """What a part starts from and leaves behind."""

    learned: Learned
    opt_state: Any
    memory: Memory


def start(objective: Objective, optimizer: optax.GradientTransformation, learned: Learned) -> Any:
    """The optimizer's first state: slots for what each part learns.

    Raises:
        InputError: a turn takes no repeats, its selector does not match, or two have one name.
    """
    if not objective.turns:
        return optimizer.init(learned)
    names = [turn.name for turn in objective.turns]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"two turns of the objective are both named {twice[0]!r}; rename one")
    masks = [_mask(turn, learned) for turn in objective.turns]
    turns = tuple(
        (turn.optimizer or optimizer).init(partition(learned, mask)[0])
        for turn, mask in zip(objective.turns, masks, strict=True)
    )
    return TurnStates(optimizer.init(partition(learned, _main_mask(objective, learned))[0]), turns)


def take_parts(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    frozen: Frozen,
    state: TrainState,
    context: MakeContext,
    key: Key,
) -> tuple[TrainState, Metrics]:
    """One update: the turns that come first, the main part, the other turns.

    Args:
        objective: whose parts.
        optimizer: of the main part, and of turns without their own.
        frozen: the objective's.
        state: of before.
        context: ``context(delta, key)`` with the passes of the model that is bound with the delta.
        key: of the step.

    Returns:
        The state of after, its step not yet counted, and the metrics.
    """
    part = _Part({"delta": state.delta, "weights": state.weights}, state.opt_state, state.memory)
    metrics: Metrics = {}
    states = list(state.opt_state.turns) if objective.turns else []

    def take(first: bool) -> None:
        nonlocal part
        for index, turn in enumerate(objective.turns):
            if turn.first == first:
                taken = _Part(part.learned, states[index], part.memory)
                turn_key = jax.random.fold_in(key, index + 1)
                taken, found = _take_turn(turn, turn.optimizer or optimizer, frozen, taken, context, turn_key)
                states[index] = taken.opt_state
                part = taken._replace(opt_state=part.opt_state)
                metrics.update(found)

    take(first=True)
    part, found, stats = _take_main(objective, optimizer, frozen, part, context, key)
    if clash := sorted(found.keys() & metrics.keys()):
        raise InputError(f"two metrics of the step are both named {clash[0]!r}; rename the term or metric")
    metrics.update(found)
    take(first=False)
    opt_state = TurnStates(part.opt_state.main, tuple(states)) if objective.turns else part.opt_state
    new = state._replace(
        delta=part.learned["delta"],
        weights=part.learned["weights"],
        memory=part.memory,
        stats=stats,
        opt_state=opt_state,
    )
    return new, metrics


def _take_main(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    frozen: Frozen,
    part: _Part,
    context: MakeContext,
    key: Key,
) -> tuple[_Part, Metrics, PyTree]:
    chosen, held = _split(part.learned, _main_mask(objective, part.learned) if objective.turns else None)

    def loss_of(chosen: Learned) -> tuple[Array, Any]:
        learned = chosen if held is None else join(chosen, held)
        seen = context(learned["delta"], key)
        loss, (memory, metrics) = objective.apply(frozen, learned["weights"], part.memory, seen)
        return loss, (memory, metrics, cast(Forward, seen.forward).gathered())

    (loss, (memory, metrics, stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(chosen)
    before = part.opt_state.main if objective.turns else part.opt_state
    chosen, after = _moved(optimizer, gradient, before, chosen)
    ours = {"loss": loss, "grad_norm": optax.tree.norm(gradient)}
    if clash := sorted(ours.keys() & metrics.keys()):
        raise InputError(f"the objective names a metric {clash[0]!r}, as the step does; rename the term or metric")
    learned = chosen if held is None else join(chosen, held)
    opt_state = part.opt_state._replace(main=after) if objective.turns else after
    return _Part(learned, opt_state, memory), ours | metrics, stats


def _take_turn(
    turn: Turn,
    optimizer: optax.GradientTransformation,
    frozen: Frozen,
    part: _Part,
    context: MakeContext,
    key: Key,
) -> tuple[_Part, Metrics]:
    """All repeats of a turn; passes of the model are shared between them where the turn does not change it."""
    chosen, held = partition(part.learned, _mask(turn, part.learned))
    shared = None if jax.tree.leaves(chosen["delta"]) else context(part.learned["delta"], key)
    if shared is not None and turn.repeats > 1:
        # Its passes are made here, once, and found again by every repeat; what else it computes is not used.
        turn.apply(frozen, part.learned["weights"], part.memory, shared)

    def repeat(carry: Any, index: Array) -> Any:
        chosen, opt_state, memory = carry
        repeat_key = jax.random.fold_in(key, index)

        def loss_of(chosen: Learned) -> tuple[Array, Any]:
            learned = join(chosen, held)
            seen = context(learned["delta"], repeat_key) if shared is None else shared._replace(key=repeat_key)
            loss, (memory_after, metrics) = turn.apply(frozen, learned["weights"], memory, seen)
            return loss, (memory_after, metrics)

        (loss, (memory, metrics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(chosen)
        chosen, opt_state = _moved(optimizer, gradient, opt_state, chosen)
        return (chosen, opt_state, memory), {turn.name: loss} | {f"{turn.name}/{k}": v for k, v in metrics.items()}

    carry: Any = (chosen, part.opt_state, part.memory)
    if turn.repeats == 1:
        carry, metrics = repeat(carry, jnp.zeros((), jnp.int32))
    else:
        carry, every = jax.lax.scan(repeat, carry, jnp.arange(turn.repeats))
        metrics = jax.tree.map(lambda values: values[-1], every)
    return _Part(join(carry[0], held), carry[1], carry[2]), metrics


def _moved(optimizer: optax.GradientTransformation, gradient: Any, opt_state: Any, chosen: Any) -> tuple[Any, Any]:
    updates, opt_state = optimizer.update(gradient, opt_state, chosen)
    return optax.apply_updates(chosen, updates), opt_state


def _split(learned: Learned, mask: Mask | None) -> tuple[Learned, Learned | None]:
    return (learned, None) if mask is None else partition(learned, mask)


def _mask(turn: Turn, learned: Learned) -> Mask:
    if isinstance(turn.repeats, bool) or not isinstance(turn.repeats, int) or turn.repeats < 1:
        raise InputError(f"the turn {turn.name!r} is taken a whole number of times from 1 up, but got {turn.repeats!r}")
    return select(turn.learns, learned)


def _main_mask(objective: Objective, learned: Learned) -> Mask:
    """What the main part learns: all but what turns learn alone."""
    alone = [select(turn.learns, learned) for turn in objective.turns if turn.alone]
    return jax.tree.map(lambda *takes: not functools.reduce(operator.or_, takes, False), learned_mask(learned), *alone)


def learned_mask(learned: Learned) -> Mask:
    """A tree of the structure of what is learned with False at every leaf."""
    return jax.tree.map(lambda _: False, learned)
