"""FixMatch: what a model is sure of in a weakly augmented view is the label of the strongly augmented one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.objectives.pseudo_labels import confident_cross_entropy
from jaxft.objectives.rows import what_counts
from jaxft.objectives.task import no_state, part_of
from jaxft.types import PREFIX, Array, Context, Key, Memory, Metrics, Objective

Augment = Callable[[Key, dict[str, Any]], Mapping[str, Any]]


def fixmatch(
    weak: str | None = "target", strong: str | Augment = "strong", *, threshold: float | Array = 0.95
) -> Objective:
    """Pseudo-labels of a weak view, where they are likely enough, for a strong view of the same rows: FixMatch.

    L = 1/n Σ_i 1[max q_i ≥ τ] (−log p(ŷ_i | strong(x_i))),  q_i = p(· | weak(x_i)) without gradient,  ŷ_i = argmax q_i

    The strong view is a part of the batch that the host made, its row i of the same example as row i of the weak view;
    or a function that makes it inside the step, ``augment(key, inputs) -> changed inputs``. The metric "kept" is the
    share of rows above the threshold.

    Args:
        weak: name of the part of the batch that the labels come from; labels of its own are not read.
        strong: name of the other part, or the function; it gets the step's randomness and the weak view without labels
            and mask, and returns the inputs that it changes, of the same shapes.
        threshold: τ; may be traced.

    Raises:
        InputError: a view is not in the batch, the views have different numbers of rows, or the function returns
            something else than arrays of the view.

    Example:
        >>> import jax
        >>> import jaxft as ft
        >>> def erase(key, inputs):
        ...     keep = jax.random.bernoulli(key, 0.7, inputs["pixels"].shape)
        ...     return {"pixels": inputs["pixels"] * keep}
        >>> made_on_the_host = fixmatch("target", "strong")
        >>> made_in_the_step = ft.combine(task=ft.cross_entropy("source"), match=fixmatch("target", erase))

    References:
        Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", 2020.
    """

    def apply(frozen: Any, weights: Any, memory: Memory, context: Context) -> tuple[Array, tuple[Memory, Metrics]]:
        del frozen, weights
        part = part_of(context.batch, weak)
        teacher = context.forward(weak).logits
        counts = what_counts(part, teacher)
        if isinstance(strong, str):
            other = part_of(context.batch, strong)
            logits = context.forward(strong).logits
            if logits.shape != teacher.shape:
                raise InputError(
                    f"fixmatch expects row i of {strong!r} to be another view of row i of {weak!r}, but their logits "
                    f"are {list(logits.shape)} and {list(teacher.shape)}"
                )
            counts &= what_counts(other, logits)
        else:
            logits = context.forward(weak, **_changes(strong, context.key, part)).logits
        loss, kept = confident_cross_entropy(logits, teacher, threshold=threshold, mask=counts)
        return loss, (memory, {"kept": kept})

    return Objective(no_state, apply)


def _changes(augment: Augment, key: Key, part: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {name: value for name, value in part.items() if name not in ("labels", "mask", PREFIX)}
    changed = augment(key, inputs)
    if not isinstance(changed, Mapping) or not changed or changed.keys() - inputs.keys():
        got = sorted(changed) if isinstance(changed, Mapping) else type(changed).__name__
        raise InputError(f"augment returns the inputs that it changes, some of {sorted(inputs)}, but it returned {got}")
    for name, value in changed.items():
        if value.shape != inputs[name].shape:
            raise InputError(
                f"augment must keep the shape of {name!r}, {list(inputs[name].shape)}, but returned {list(value.shape)}"
            )
    return dict(changed)
