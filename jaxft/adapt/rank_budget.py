"""A budget of ranks over all weights, spent where they matter most, as an optimizer around another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.errors import InputError
from jaxft.trees import is_node, nodes
from jaxft.types import TRIPLETS, Array, PyTree


class RankBudgetState(NamedTuple):
    """What a rank budget remembers.

    Attributes:
        step: the updates made so far.
        sensitivity: Ī of every entry of P, Λ and Q, in float32, laid out as the parameters.
        uncertainty: Ū, likewise.
        kept: which entries of each Λ the latest allocation kept, likewise.
        inner: the state of the optimizer.
    """

    step: Array
    sensitivity: PyTree
    uncertainty: PyTree
    kept: PyTree
    inner: Any


def budget(step: Array, *, start: int, end: int, steps: int, warmup: int, final: int) -> Array:
    """How many entries of Λ may stay after an update, a whole number.

    b(t) = b₀ for t < t_i;  b_T + (b₀ − b_T)(1 − (t − t_i)/(T − t_f − t_i))³ for t_i ≤ t < T − t_f;  b_T after

    The paper prints (t − t_i − t_f) for (t − t_i), with which the budget would rise above b₀ at t_i; this is the curve
    that its code follows. It is rounded to the nearest whole number.

    Args:
        step: t, the updates made before.
        start: b₀.
        end: b_T.
        steps: T.
        warmup: t_i.
        final: t_f.

    Example:
        >>> [int(budget(jnp.int32(t), start=12, end=4, steps=10, warmup=2, final=4)) for t in range(8)]
        [12, 12, 12, 7, 5, 4, 4, 4]
    """
    progress = jnp.clip((step - warmup) / (steps - final - warmup), 0.0, 1.0)
    return jnp.round(end + (start - end) * (1.0 - progress) ** 3).astype(jnp.int32)


def rank_budget(
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    warmup: int,
    final: int,
    rank: int = 8,
    interval: int = 100,
    b1: float = 0.85,
    b2: float = 0.85,
) -> optax.GradientTransformation:
    """An optimizer that also sets the least important entries of every Λ of `adalora` to zero.

    I = |w ∂L/∂w|,  Ī ← β₁ Ī + (1 − β₁) I,  Ū ← β₂ Ū + (1 − β₂)|I − Ī|,  s(w) = Ī Ū
    S_i = s(Λ_i) + mean_j s(P_ji) + mean_j s(Q_ij)

    Every ``interval`` updates the budget b(t) is spent: of all entries of all Λ together, stacked layers included, the
    b(t) with the largest S stay and the others become zero, from where they may come back. At T − t_f the budget is
    spent for the last time, and what is zero then stays zero. b₀ is the sum of all ranks and b_T the average ``rank``
    times the number of matrices. Only the values of Λ change, no shape does: all updates are one program.

    It goes outermost, around the whole optimizer: the importance needs the gradient and not the update, and an entry
    becomes zero by the update −w, which nothing may change afterwards. The wrappers of rates such as `layerwise_rates`
    refuse to stand outside of it; a transformation of optax behind it in a chain, such as
    ``optax.scale_by_schedule``, cannot be seen and would break the budget in silence: put schedules inside. Only
    averages of gradients over steps go outside, by ``optax.MultiSteps``.

    Args:
        optimizer: that updates the parameters, such as ``adamw(1e-3)``.
        steps: T, the updates of the whole run.
        warmup: t_i, updates before the budget shrinks.
        final: t_f, updates after the last allocation.
        rank: the average rank that is left.
        interval: updates from one allocation to the next.
        b1: β₁.
        b2: β₂.

    Raises:
        InputError: phases that leave no update for the budget to shrink, numbers out of range, or at ``init`` no weight
            of `adalora` or a budget above what there is.

    Example:
        >>> import jaxft as ft
        >>> optimizer = rank_budget(ft.adamw(1e-3), steps=1000, warmup=100, final=300, rank=8, interval=10)

    References:
        Zhang et al., "AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", 2023.
    """
    _check(steps=steps, warmup=warmup, final=final, rank=rank, interval=interval)
    for name, beta in (("b1", b1), ("b2", b2)):
        if isinstance(beta, (int, float, np.number)) and not 0 <= beta < 1:
            raise InputError(f"rank_budget expects {name} in [0, 1), but got {beta}")

    def init(params: PyTree) -> RankBudgetState:
        start, end = _ends(params, rank)
        if end > start:
            raise InputError(
                f"a budget of rank {rank} for each of the {end // rank} matrices is {end}, but the ranks of adalora "
                f"are {start} together: start with more or leave fewer"
            )
        sensitivity, uncertainty = (
            _each(lambda parts: jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.float32), parts), params)
            for _ in range(2)
        )
        kept = _each(lambda parts: {"lambda": jnp.ones(parts["lambda"].shape, bool)}, params)
        return RankBudgetState(jnp.zeros((), jnp.int32), sensitivity, uncertainty, kept, optimizer.init(params))

    def update(updates: PyTree, state: RankBudgetState, params: PyTree = None) -> tuple[PyTree, RankBudgetState]:
        if params is None:
            raise InputError("rank_budget needs the parameters: call update(gradients, state, params)")
        start, end = _ends(params, rank)
        now = _each(lambda w, g: jax.tree.map(_product, w, g), params, updates)
        sensitivity = jax.tree.map(lambda mean, i: b1 * mean + (1 - b1) * i, state.sensitivity, now)
        uncertainty = jax.tree.map(
            lambda mean, i, smooth: b2 * mean + (1 - b2) * jnp.abs(i - smooth), state.uncertainty, now, sensitivity
        )
        allowed = budget(state.step, start=start, end=end, steps=steps, warmup=warmup, final=final)
        scores = _each(_importance, jax.tree.map(jnp.multiply, sensitivity, uncertainty))
        last = steps - final
        shrinking = (state.step >= warmup) & (state.step < last) & (state.step % interval == 0)
        spends = shrinking | (state.step == last)
        kept = jax.tree.map(lambda new, old: jnp.where(spends, new, old), _largest(scores, allowed), state.kept)
        inner_updates, inner = optimizer.update(updates, state.inner, params)
        masked = _masked(inner_updates, params, kept, spends | (state.step >= last))
        return masked, RankBudgetState(state.step + 1, sensitivity, uncertainty, kept, inner)

    return optax.GradientTransformation(init, update)


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        least = 0 if name == "warmup" else 1  # the last allocation is the first of the final updates
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
            raise InputError(f"rank_budget expects {name} as a whole number from {least} up, but got {number!r}")
    if numbers["warmup"] + numbers["final"] >= numbers["steps"]:
        raise InputError(
            f"a warm-up of {numbers['warmup']} and {numbers['final']} final updates leave none of {numbers['steps']} "
            "for the budget to shrink in: make the run longer or the phases shorter"
        )


def _ends(params: PyTree, rank: int) -> tuple[int, int]:
    """b₀ and b_T: all ranks there are, and the average rank times the matrices."""
    values = [parts["lambda"] for parts in nodes(params, TRIPLETS).values() if _is_triplet(parts)]
    if not values:
        raise InputError("rank_budget expects an adaptation with jaxft.adalora, but no weight learns P, Λ and Q")
    return sum(v.size for v in values), rank * sum(v.size // v.shape[-1] for v in values)


def _is_triplet(tree: Any) -> bool:
    """Whether a tree has P, Λ and Q; under `narrow` a weight may lack those that do not learn for now."""
    return is_node(tree, TRIPLETS) and len(jax.tree.leaves(tree)) == len(TRIPLETS)


def _each(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Maps over the parts P, Λ and Q of each weight; None for all that is none."""

    def visit(parts: Any, *others: Any) -> Any:
        return f(parts, *others) if _is_triplet(parts) else None

    return jax.tree.map(visit, tree, *rest, is_leaf=_is_triplet)


def _product(w: Array, gradient: Array) -> Array:
    return jnp.abs(w.astype(jnp.float32) * gradient.astype(jnp.float32))


def _importance(scores: dict[str, Array]) -> dict[str, Array]:
    """S of every triplet of a weight, ``[*stack, rank]``, in the place of its Λ."""
    *stack, rank = scores["lambda"].shape
    of_p = scores["p"].reshape(*stack, -1, rank).mean(axis=-2)
    of_q = scores["q"].reshape(*stack, rank, -1).mean(axis=-1)
    return {"lambda": scores["lambda"] + of_p + of_q}


def _largest(scores: PyTree, count: Array) -> PyTree:
    """Which of all scores are among the ``count`` largest; of equal ones the first."""
    leaves, structure = jax.tree.flatten(scores)
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
    places = jnp.zeros(flat.size, jnp.int32).at[jnp.argsort(-flat, stable=True)].set(jnp.arange(flat.size))
    cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = jnp.split(places < count, cuts)
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


def _masked(updates: PyTree, params: PyTree, kept: PyTree, now: Array) -> PyTree:
    """The updates, but those that take an entry of Λ to zero where it is not kept."""

    def visit(step: Any, parts: Any, keeps: Any) -> Any:
        if not _is_triplet(step):
            return step
        w, u = parts["lambda"], step["lambda"]
        return {**step, "lambda": jnp.where(~now | keeps["lambda"], u, -w.astype(u.dtype))}

    return jax.tree.map(visit, updates, params, kept, is_leaf=lambda step: step is None or _is_triplet(step))
