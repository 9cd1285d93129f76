"""Maximum classifier discrepancy: two heads find where the target is unlike the source, the features mend it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.objectives.discriminator import apply_mlp, init_mlp
from jaxft.objectives.kernels import check_domains
from jaxft.objectives.layer import layer_of
from jaxft.objectives.links import chosen_of
from jaxft.objectives.rows import mean_of_rows, rows_that_count
from jaxft.objectives.task import labelled, softmax_cross_entropy
from jaxft.trees import Selection, as_selector, map_with_path
from jaxft.types import Array, Choice, Context, Key, Mask, Memory, Metrics, Objective, Params, Turn, Weights


def classifier_discrepancy(logits: Array, other: Array, *, mask: Array | None = None) -> Array:
    """Mean absolute difference of two predictions, over rows and classes, in float32.

    d = mean |p₁ − p₂|

    Args:
        logits: of p₁, ``[batch, classes]``.
        other: of p₂, ``[batch, classes]``.
        mask: bools ``[batch]``; False leaves a row out.

    Raises:
        InputError: the shapes differ, or the mask does not fit.

    Example:
        >>> round(float(classifier_discrepancy(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, jnp.log(3.0)]]))), 4)
        0.25

    References:
        Saito et al., "Maximum Classifier Discrepancy for Unsupervised Domain Adaptation", 2018.
    """
    if logits.ndim != 2 or logits.shape != other.shape:
        raise InputError(
            "a discrepancy of classifiers expects two logits [batch, classes] of one shape, but they are "
            f"{list(logits.shape)} and {list(other.shape)}"
        )
    counts = rows_that_count(logits, mask)
    p_1, p_2 = (jax.nn.softmax(jnp.where(counts[:, None], z.astype(jnp.float32), 0.0)) for z in (logits, other))
    return mean_of_rows(jnp.mean(jnp.abs(p_1 - p_2), axis=1), counts)


def mcd(*, source: str = "source", target: str = "target", head: Choice = "head/**", repeats: int = 4) -> Objective:
    """A second head beside the model's own; the two part on the target as far as the source lets them.

    A, all that learns:  L = CE_s(p₂), beside the task CE_s(p₁), a term of its own
    B, both heads:       min CE_s(p₁) + CE_s(p₂) − d(t)
    C, all but heads:    min d(t), four times,  d = mean |p₁ − p₂|

    The second head is one dense layer on the model's features, and learns from another start. The term's own loss is
    the second head's risk alone: that of the first is the task, which stands beside it in A. B has both. After training
    the first predicts as ever. All parts take the step's optimizer, each with a state of its own, and a weight of the
    term is that of A alone.

    Args:
        source: name of the view with labels.
        target: name of a view; its labels are not read.
        head: selects the model's own head among what learns. Of a chain, whose delta is a tuple, it sees all links as
            one tree.
        repeats: how often C is taken in every step.

    Raises:
        InputError: a view is not in the batch or has no rows, the source has no labels, the model gives no features of
            one size or no logits ``[batch, classes]``, or nothing that learns is the head's, or nothing else.

    Example:
        >>> import jaxft as ft
        >>> objective = ft.combine(task=ft.cross_entropy("source"), heads=mcd())

    References:
        Saito et al., "Maximum Classifier Discrepancy for Unsupervised Domain Adaptation", 2018.
    """

    def logits_of(weights: Weights, context: Context, view: str) -> tuple[Array, Array, Array]:
        features, counts = layer_of(context, view, "features")
        return layer_of(context, view, "logits")[0], apply_mlp(weights, features), counts

    def risk(logits: Array, context: Context) -> Array:
        part = labelled(context.batch, source)
        return softmax_cross_entropy(logits, part["labels"], mask=part.get("mask"))

    def check(context: Context) -> int:
        """The size of the features."""
        f_s, f_t = (layer_of(context, view, "features")[0] for view in (source, target))
        check_domains(f_s, f_t, "mcd")
        return f_s.shape[1]

    def init(key: Key, context: Context) -> tuple[tuple[()], Weights, tuple[()]]:
        return (), init_mlp(key, (check(context), layer_of(context, source, "logits")[0].shape[1])), ()

    def both(frozen: Any, weights: Weights, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        return risk(logits_of(weights, context, source)[1], context), (memory, {})

    def part(frozen: Any, weights: Weights, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        check(context)
        first, second, _ = logits_of(weights, context, source)
        apart = _on(logits_of(weights, context, target))
        return risk(first, context) + risk(second, context) - apart, (memory, {"discrepancy": apart})

    def mend(frozen: Any, weights: Weights, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        return _on(logits_of(weights, context, target)), (memory, {})

    heads = Turn("heads", part, _heads(head))
    features = Turn("features", mend, _rest(head), repeats)
    return Objective(init, both, (heads, features))


def _on(logits: tuple[Array, Array, Array]) -> Array:
    first, second, counts = logits
    return classifier_discrepancy(first, second, mask=counts)


def _heads(head: Choice) -> Selection:
    """Selects both heads."""

    def mask(learned: Params) -> Mask:
        chosen = chosen_of(head, learned["delta"])
        return {
            "delta": map_with_path(lambda path, _: chosen[path], learned["delta"]),
            "weights": jax.tree.map(lambda _: True, learned["weights"]),
        }

    return Selection(mask, f"{as_selector(head)!r} and the second head")


def _rest(head: Choice) -> Selection:
    """Selects what is no head."""

    def mask(learned: Params) -> Mask:
        chosen = chosen_of(head, learned["delta"])
        if all(chosen.values()):
            raise InputError("mcd moves the features that the heads read, but nothing beside the head learns")
        return {
            "delta": map_with_path(lambda path, _: not chosen[path], learned["delta"]),
            "weights": jax.tree.map(lambda _: False, learned["weights"]),
        }

    return Selection(mask, f"all but {as_selector(head)!r}")
