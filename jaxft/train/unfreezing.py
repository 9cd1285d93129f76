"""Freezing over time inside one program: groups of arrays begin to learn one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxft.errors import InputError
from jaxft.train.learned import WEIGHTS, learned_names, owner
from jaxft.trees import everything, join, leaf_paths, map_with_path, partition, select
from jaxft.types import Array, Choice, Mask, PyTree


class UnfreezingState(NamedTuple):
    """The state of `gradual_unfreezing`.

    Attributes:
        step: updates so far.
        slots: the optimizer's slots of arrays, such as moments, each once.
        own: what else the optimizer keeps, such as its count of steps, once for each group.
    """

    step: Array
    slots: PyTree
    own: tuple[PyTree, ...]


def gradual_unfreezing(
    optimizer: optax.GradientTransformation, groups: Sequence[Choice], *, every: int
) -> optax.GradientTransformationExtraArgs:
    """Lets the first group learn from the beginning and one more every so many steps, all in one program.

    g_p ← 0 and u_p ← 0  while  step < every · group(p)

    A group that waits does not move, nor do its slots: its gradient is zero before the optimizer clips or averages it,
    and the optimizer's count of steps is the group's own, so that the bias correction of Adam begins when the group
    does. So does a schedule inside the optimizer; one over all steps goes outside:
    ``optax.chain(gradual_unfreezing(optax.adamw(1.0), …), optax.scale_by_schedule(schedule))``. An optimizer that
    averages the gradients of several steps fits when ``every`` is a multiple of them.

    The step computes the gradients and has the slots of all groups from the beginning. `unfreezing_phases` gives the
    same run as a program a phase that does not.

    Args:
        optimizer: any optax transformation.
        groups: selectors of what learns, the first to learn first, such as
            ``["head/**", "encoder/layer_5/**", "encoder/layer_4/**", "**"]``. An array belongs to the first that
            matches its path in the params. What an objective learns beside the model learns from the beginning.
        every: steps from one group to the next.

    Raises:
        InputError: no group, ``every`` below one, or at ``init`` a group that matches nothing that learns, or an array
            that learns and matches no group.

    Example:
        >>> optimizer = gradual_unfreezing(optax.sgd(1.0), ["head", "**"], every=2)
        >>> learned = {"delta": {"body": jnp.ones(1), "head": jnp.ones(1)}}
        >>> state, moved = optimizer.init(learned), []
        >>> for _ in range(3):
        ...     updates, state = optimizer.update(learned, state, learned)
        ...     moved.append([float(updates["delta"][name][0]) for name in ("head", "body")])
        >>> moved
        [[-1.0, 0.0], [-1.0, 0.0], [-1.0, -1.0]]

    References:
        Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018.
    """
    check_groups(groups, every)
    inner = optax.with_extra_args_support(optimizer)

    def init(learned: PyTree) -> UnfreezingState:
        _members(learned, groups)
        state = inner.init(learned)
        slots, own = partition(state, _is_slot(state, learned))
        return UnfreezingState(jnp.zeros((), jnp.int32), slots, tuple(jax.tree.map(jnp.copy, own) for _ in groups))

    def update(
        gradient: PyTree, state: UnfreezingState, learned: PyTree = None, **extra: Any
    ) -> tuple[PyTree, UnfreezingState]:
        group = _members(gradient, groups)
        begun = [state.step >= every * index for index in range(len(groups))]

        def moves(member: int, new: Array, old: Array) -> Array:
            return new if member == 0 else jnp.where(begun[member], new, old)

        masked = map_with_path(lambda path, g: moves(group[path], g, jnp.zeros_like(g)), gradient)
        changes, slots, owns = [], [], []
        for index, own in enumerate(state.own):
            # Each group has a run of its own, which differs from the others in the counts alone. Only its own arrays
            # are taken from it: the compiler leaves out the rest.
            change, after = inner.update(masked, join(own, state.slots), learned, **extra)
            slot, new = partition(after, _is_slot(after, gradient))
            changes.append(change)
            slots.append(slot)
            owns.append(jax.tree.map(lambda new, old, index=index: moves(index, new, old), new, own))

        def change_of(path: str, *options: Array) -> Array:
            member = group[path]
            return moves(member, options[member], jnp.zeros_like(options[member]))

        def slot_of(path: str, old: Array, *options: Array) -> Array:
            member = group[owner(path, group) or ""]
            return moves(member, options[member], old)

        new = UnfreezingState(
            optax.safe_increment(state.step), map_with_path(slot_of, state.slots, *slots), tuple(owns)
        )
        return map_with_path(change_of, *changes), new

    return optax.GradientTransformationExtraArgs(init, update)


def lp_ft(
    optimizer: optax.GradientTransformation, head: Choice, *, steps: int
) -> optax.GradientTransformationExtraArgs:
    """Trains the head alone and then everything: linear probing, then fine-tuning.

    It is `gradual_unfreezing` of two groups, the head and the rest; `lp_ft_phases` gives the same run as two programs.

    Args:
        optimizer: any optax transformation.
        head: what learns from the beginning, such as ``"head/**"``.
        steps: of the head alone.

    Raises:
        InputError: ``steps`` is below one, or at ``init`` the head matches nothing that learns.

    Example:
        >>> optimizer = lp_ft(optax.sgd(1.0), "head", steps=1)
        >>> learned = {"delta": {"body": jnp.ones(1), "head": jnp.ones(1)}}
        >>> updates, state = optimizer.update(learned, optimizer.init(learned), learned)
        >>> float(updates["delta"]["head"][0]), float(updates["delta"]["body"][0])
        (-1.0, 0.0)

    References:
        Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
    """
    return gradual_unfreezing(optimizer, [head, everything], every=steps)


def check_groups(groups: Sequence[Choice], every: int) -> None:
    """Refuses one glob in place of several groups, none at all, and a pace that is no whole number of steps."""
    if isinstance(groups, str) or not groups:
        raise InputError(f"groups expects a list of selectors, one a group, but got {groups!r}")
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InputError(f"a group expects at least one step before the next, a whole number, but got {every!r}")


def _members(learned: PyTree, groups: Sequence[Choice]) -> dict[str, int]:
    """The index of the group of every array, by path."""
    names, leaves = learned_names(learned), leaf_paths(learned)
    view = {name: leaves[path] for path, name in names.items() if not path.startswith(WEIGHTS)}
    masks: list[Mask] = [select(choice, view) for choice in groups]

    def member(path: str, name: str) -> int:
        if path.startswith(WEIGHTS):
            return 0
        index = next((index for index, mask in enumerate(masks) if mask[name]), None)
        if index is None:
            raise InputError(
                f"{name!r} learns but belongs to none of the {len(groups)} groups; add a last group '**' for the rest, "
                "or leave it out of the adaptation"
            )
        return index

    return {path: member(path, name) for path, name in names.items()}


def _is_slot(state: PyTree, learned: PyTree) -> Mask:
    known = leaf_paths(learned)
    return map_with_path(lambda path, _: owner(path, known) is not None, state)
