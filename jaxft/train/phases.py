"""Freezing over time as one program a phase: what waits has no gradient and no optimizer slot."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxft.adapt.narrow import hold, release
from jaxft.errors import InputError
from jaxft.train.turns import TurnStates
from jaxft.train.unfreezing import check_groups, gradual_unfreezing
from jaxft.trees import Selection, as_selector, everything, leaf_paths, map_with_path, select
from jaxft.types import Choice, Delta, Frozen, Mask, Params, Selector, Start, StepFrozen, TrainState


class Phase(NamedTuple):
    """A part of a run in which the same arrays learn.

    Attributes:
        start: the step at which it begins.
        selector: of what learns, for `narrow`.
        optimizer: for its step.
    """

    start: int
    selector: Selector
    optimizer: optax.GradientTransformation


def unfreezing_phases(
    optimizer: optax.GradientTransformation, groups: Sequence[Choice], *, every: int
) -> tuple[Phase, ...]:
    """The run of `gradual_unfreezing` as phases, whose steps differentiate and keep slots for what learns already.

    Every phase has a step of its own, made from the narrowed adaptation; `repartition` takes the state from one to the
    next. After the last phase has begun, frozen and delta are those of the adaptation itself. The numbers equal those
    of the one program but for the metric ``grad_norm``, which there counts the gradient of what waits, and for an
    objective that looks at the delta, which here sees only what learns: `orthogonality` sums over that alone. `l2_sp`
    gives the same numbers, provided that its head learns from the beginning: what waits has not moved.

    Args:
        optimizer: any optax transformation.
        groups: as in `gradual_unfreezing`.
        every: steps from one group to the next.

    Raises:
        InputError: no group, or ``every`` below one; at ``init`` or `repartition` as in `gradual_unfreezing`.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxft as ft
        >>> def model(params, batch, *, train=False, key=None):
        ...     return batch["x"] @ params["body"] @ params["head"]
        >>> params = {"body": jnp.eye(3), "head": jnp.zeros((3, 2))}
        >>> batch = {"x": jnp.ones((2, 3)), "labels": jnp.array([0, 1])}
        >>> state = None
        >>> for phase in unfreezing_phases(optax.adam(0.1), ["head", "body"], every=5):
        ...     adaptation = ft.narrow(ft.full(), phase.selector)
        ...     step = ft.make_step(model, adaptation, ft.cross_entropy(), phase.optimizer)
        ...     if state is None:
        ...         frozen, state = step.init(jax.random.key(0), params, batch)
        ...     frozen, state = ft.repartition(frozen, state, phase)
        ...     print(phase.start, sorted(ft.leaf_paths(state.delta)))
        ...     for _ in range(5):
        ...         state, metrics = step.update(frozen, state, batch)
        0 ['head']
        5 ['body', 'head']

    References:
        Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018.
    """
    check_groups(groups, every)
    begun = [groups[: index + 1] for index in range(len(groups))]
    return tuple(
        Phase(every * index, _union(some), gradual_unfreezing(optimizer, some, every=every))
        for index, some in enumerate(begun)
    )


def lp_ft_phases(optimizer: optax.GradientTransformation, head: Choice, *, steps: int) -> tuple[Phase, ...]:
    """The run of `lp_ft` as two phases: the head alone, then everything.

    Args:
        optimizer: any optax transformation.
        head: what learns from the beginning, such as ``"head/**"``.
        steps: of the head alone.

    Raises:
        InputError: ``steps`` is below one.

    Example:
        >>> [phase.start for phase in lp_ft_phases(optax.adam(1e-3), "head/**", steps=100)]
        [0, 100]

    References:
        Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
    """
    return unfreezing_phases(optimizer, [head, everything], every=steps)


def repartition(frozen: StepFrozen, state: TrainState, phase: Phase) -> tuple[StepFrozen, TrainState]:
    """Moves arrays between what learns and what is held, for the step of another phase.

    Trained values, slots of arrays that go on learning, weights, memory, statistics and key are carried over; arrays
    that begin to learn get fresh slots. What the objective keeps is carried over as it is, but for a
    `jaxft.types.Start`, which gains the arrays that begin. A pure function: under ``jax.jit`` or not.

    Args:
        frozen: of the step so far, whose adaptation may be narrowed.
        state: of the step so far.
        phase: the one to come, the same as the one so far included.

    Raises:
        InputError: the phase selects nothing that learns, or not what its optimizer's groups cover; the objective has
            turns, whose optimizers a phase does not have.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxft as ft
        >>> before, after = lp_ft_phases(optax.adam(1e-3), "head", steps=10)
        >>> model = lambda params, batch, *, train=False, key=None: batch["x"] * params["body"] + params["head"]
        >>> step = ft.make_step(model, ft.narrow(ft.full(), before.selector), ft.cross_entropy(), before.optimizer)
        >>> batch = {"x": jnp.ones((1, 2)), "labels": jnp.array([0])}
        >>> frozen, state = step.init(jax.random.key(0), {"body": jnp.ones(2), "head": jnp.ones(2)}, batch)
        >>> frozen, state = repartition(frozen, state, after)
        >>> sorted(ft.leaf_paths(state.delta)), jax.tree.leaves(frozen)
        (['body', 'head'], [])
    """
    if isinstance(state.opt_state, TurnStates):
        raise InputError(
            "the objective has turns, each with an optimizer's state of its own, which a phase does not carry over; "
            "freeze over time in one program, with gradual_unfreezing or lp_ft"
        )
    model, delta = hold(*release(frozen.model, state.delta), phase.selector)
    opt_state = phase.optimizer.init({"delta": delta, "weights": state.weights})
    former = leaf_paths(state.opt_state)

    def carried(path: str, fresh: jax.Array) -> jax.Array:
        old = former.get(path)
        return old if old is not None and (old.shape, old.dtype) == (fresh.shape, fresh.dtype) else fresh

    new = state._replace(delta=delta, opt_state=map_with_path(carried, opt_state))
    return StepFrozen(model, _with_starts(frozen.objective, state.delta, delta)), new


def _with_starts(objective: Frozen, before: Delta, after: Delta) -> Frozen:
    """What an objective froze, with where the arrays start that learn after but not before."""
    learnt = leaf_paths(before)
    begin = {path: leaf for path, leaf in leaf_paths(after).items() if path not in learnt}

    def extended(part: Frozen) -> Frozen:
        if not isinstance(part, Start):
            return part
        # What stopped and goes on keeps its first start. A copy: the delta may be donated with the state.
        return Start({**jax.tree.map(jnp.copy, begin), **part.values})

    return jax.tree.map(extended, objective, is_leaf=lambda part: isinstance(part, Start))


def _union(choices: Sequence[Choice]) -> Selection:
    def mask(params: Params) -> Mask:
        masks = [select(choice, params) for choice in choices]
        return jax.tree.map(lambda *takes: functools.reduce(operator.or_, takes), *masks)

    return Selection(mask, " | ".join(repr(as_selector(choice)) for choice in choices))
