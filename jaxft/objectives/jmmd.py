"""Joint maximum mean discrepancy: several layers compared at once, by the product of their kernels."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxft.errors import InputError, nearest
from jaxft.objectives.distances import squared_distances
from jaxft.objectives.kernels import KERNELS, bandwidths, check_domains, gaussian
from jaxft.objectives.layer import Layer, layer_of
from jaxft.objectives.mmd import discrepancy
from jaxft.objectives.rows import rows_that_count
from jaxft.objectives.task import no_state
from jaxft.types import Array, Context, Memory, Metrics, Objective

ESTIMATORS = ("unbiased", "biased")
Scales = Sequence[Array | Sequence[float] | None]


def jmmd2(
    source: Sequence[Array],
    target: Sequence[Array],
    *,
    estimator: str = "unbiased",
    scales: Scales | None = None,
    kernels: int | Sequence[int] = KERNELS,
    bandwidth: str = "median",
    source_mask: Array | None = None,
    target_mask: Array | None = None,
) -> Array:
    """Squared joint maximum mean discrepancy, in float32: `mmd2` with k(x, y) = Π_l k_l(x_l, y_l).

    Args:
        source: the layers of the source, ``[n, dim]`` each.
        target: the layers of the target, ``[m, dim]`` each, in the same order.
        estimator: "unbiased" or "biased".
        scales: for each layer the γ of its kernels, or None for those of `bandwidths`.
        kernels: how many there are where scales are not given, for all layers or for each.
        bandwidth: as in `mmd2`.
        source_mask: bools ``[n]``; False leaves a row out.
        target_mask: bools ``[m]``.

    Raises:
        InputError: no layers, or different numbers of them; what `mmd2` refuses of each.

    Example:
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[0.0], [2.0]])
        >>> round(float(jmmd2([x, x], [y, y], estimator="biased", scales=[[2.0], [2.0]])), 5)
        0.31606

    References:
        Long et al., "Deep Transfer Learning with Joint Adaptation Networks", 2017.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"there is no estimator {estimator!r} ({nearest(estimator, ESTIMATORS)})")
    layers = len(source)
    each = [kernels] * layers if isinstance(kernels, int) else list(kernels)
    given = [None] * layers if scales is None else list(scales)
    if not layers or not layers == len(target) == len(each) == len(given):
        raise InputError(
            "the joint discrepancy compares the same layers of both domains, with kernels for each, but got "
            f"{layers} of the source, {len(target)} of the target, scales for {len(given)} and kernels for {len(each)}"
        )
    counts_s, counts_t = rows_that_count(source[0], source_mask), rows_that_count(target[0], target_mask)
    products: list[list[Array]] = [[], [], []]
    for x, y, gamma, number in zip(source, target, given, each, strict=True):
        check_domains(x, y, "the joint discrepancy")
        s, t = jnp.where(counts_s[:, None], x, 0.0), jnp.where(counts_t[:, None], y, 0.0)
        if gamma is None:
            gamma = bandwidths(s, t, kernels=number, of=bandwidth, source_mask=counts_s, target_mask=counts_t)
        for product, (first, second) in zip(products, ((s, s), (t, t), (s, t)), strict=True):
            product.append(gaussian(squared_distances(first, second), gamma))
    k_ss, k_tt, k_st = (functools.reduce(operator.mul, product) for product in products)
    return discrepancy(k_ss, k_tt, k_st, counts_s, counts_t, unbiased=estimator == "unbiased")


def jmmd(
    layers: Sequence[Layer] = ("features", "probabilities"),
    *,
    source: str = "source",
    target: str = "target",
    estimator: str = "unbiased",
    scales: Scales | None = (None, (1.68**2,)),
    kernels: int | Sequence[int] = KERNELS,
    bandwidth: str = "median",
) -> Objective:
    """Brings source and target together in several layers at once: joint adaptation networks.

    L = JMMD²(layers of the source, layers of the target)

    As in the paper's experiments the features have five kernels around the median, the probabilities one of fixed
    width γ = 1.68².

    Args:
        layers: two or more of "features", "logits", "probabilities", and numbers of hidden states.
        source: name of a view.
        target: name of a view; labels are read of neither.
        estimator: "unbiased" or "biased".
        scales: as in `jmmd2`; give None, or as many as layers, when these are others.
        kernels: as in `jmmd2`.
        bandwidth: as in `jmmd2`.

    Raises:
        InputError: as `jmmd2`; a view is not in the batch, or the model does not give a layer.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), align=(jmmd(), 1.0))
        >>> deeper = jmmd((-1, "features", "probabilities"), scales=None)

    References:
        Long et al., "Deep Transfer Learning with Joint Adaptation Networks", 2017.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        s = [layer_of(context, source, layer) for layer in layers]
        t = [layer_of(context, target, layer) for layer in layers]
        if not s:
            raise InputError("jmmd compares at least one layer; name them, as in jmmd(('features', 'probabilities'))")
        found = jmmd2(
            [x for x, _ in s],
            [x for x, _ in t],
            estimator=estimator,
            scales=scales,
            kernels=kernels,
            bandwidth=bandwidth,
            source_mask=s[0][1],
            target_mask=t[0][1],
        )
        return found, (memory, {})

    return Objective(no_state, apply)
