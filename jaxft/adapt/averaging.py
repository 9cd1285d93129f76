"""Averages of fine-tuned models: between a base and what it became, and soups of several runs.

All are pure functions of trees of arrays of one structure, params or what `merge` returns, computed in float32 and
returned in the type of the first tree; integer leaves are the first tree's. The factors of low-rank adapters are no
such trees: the mean of A·B is not the product of the means. Average what `merge` returns, or join the factors with
`concatenate_rank`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxft.adapt.alike import check_alike, map_floats
from jaxft.types import Array, Params


def interpolate(base: Params, tuned: Params, alpha: float | Array) -> Params:
    """Goes part of the way from a base to a fine-tuned model (WiSE-FT).

    θ = (1 − α) θ_0 + α θ_1

    Args:
        base: θ_0.
        tuned: θ_1, of the same structure.
        alpha: α; 0 is the base, 1 the tuned model, and it may lie beyond. It may be traced.

    Raises:
        InputError: the trees differ in structure or shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> interpolate({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, 0.25)
        {'w': Array([0.25, 0.25], dtype=float32)}

    References:
        Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", 2022.
    """
    check_alike([base, tuned], "models to interpolate")
    return map_floats(lambda zero, one: (1 - alpha) * zero + alpha * one, base, tuned)


def uniform_soup(trees: Sequence[Params]) -> Params:
    """The mean of several fine-tuned models of one base.

    θ = (1/k) Σ_i θ_i

    Args:
        trees: the models, of one structure.

    Raises:
        InputError: there is none, or they differ in structure or shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> uniform_soup([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}])
        {'w': Array([0.5, 0.5], dtype=float32)}

    References:
        Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-Tuned Models Improves Accuracy without
        Increasing Inference Time", 2022.
    """
    check_alike(trees, "models of a soup")
    return map_floats(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *trees)


class Soup(NamedTuple):
    """What `greedy_soup` made.

    Attributes:
        params: the mean of its members.
        members: their indices in the list given, in the order in which they were taken.
        score: of the mean.
    """

    params: Params
    members: tuple[int, ...]
    score: float


def greedy_soup(trees: Sequence[Params], score: Callable[[Params], float]) -> Soup:
    """Adds models to a mean, the best first, each if the mean does not get worse.

    Args:
        trees: the fine-tuned models, of one structure.
        score: of a model on held-out data, the higher the better, such as
            ``lambda params: ft.evaluate(model.apply, params, batches)["accuracy"]``; called about twice a model.

    Raises:
        InputError: there is no model, or they differ in structure or shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> trees = [{"w": jnp.float32(w)} for w in (3.0, 0.5, 1.75)]
        >>> soup = greedy_soup(trees, lambda params: -abs(float(params["w"]) - 1.0))
        >>> soup.members, float(soup.params["w"])
        ((1, 2), 1.125)

    References:
        Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-Tuned Models Improves Accuracy without
        Increasing Inference Time", 2022.
    """
    check_alike(trees, "models of a soup")
    scores = [float(score(tree)) for tree in trees]
    best_first = sorted(range(len(trees)), key=lambda index: -scores[index])
    soup = Soup(trees[best_first[0]], (best_first[0],), scores[best_first[0]])
    for index in best_first[1:]:
        members = (*soup.members, index)
        params = uniform_soup([trees[member] for member in members])
        found = float(score(params))
        if found >= soup.score:
            soup = Soup(params, members, found)
    return soup
