"""The terms that `DomainAdapter` knows by name."""

from __future__ import annotations

from collections.abc import Callable

from jaxft.objectives import (
    adaptive_feature_norm,
    cdan,
    dann,
    deep_coral,
    deepjdot,
    entropy_minimisation,
    infomax,
    jmmd,
    lmmd,
    mcd,
    mdd,
    minimum_class_confusion,
    mmd,
    nuclear_norm_maximisation,
    pseudo_labels,
    reversal_schedule,
    wdgrl,
)
from jaxft.types import Objective

Term = Callable[[int], Objective]

METHODS: dict[str, Term | None] = {
    "source_only": None,
    "mmd": lambda steps: mmd(),
    "jmmd": lambda steps: jmmd(),
    "lmmd": lambda steps: lmmd(),
    "coral": lambda steps: deep_coral(),
    "afn": lambda steps: adaptive_feature_norm(),
    "mcc": lambda steps: minimum_class_confusion(),
    "bnm": lambda steps: nuclear_norm_maximisation(),
    "entropy": lambda steps: entropy_minimisation(),
    "infomax": lambda steps: infomax(),
    "pseudo_labels": lambda steps: pseudo_labels("target", threshold=0.95),
    "deepjdot": lambda steps: deepjdot(alpha=0.1, label_weight=0.1),
    "dann": lambda steps: dann(scale=reversal_schedule(steps)),
    "cdan": lambda steps: cdan(scale=reversal_schedule(steps)),
    "cdan+e": lambda steps: cdan(scale=reversal_schedule(steps), entropy=True),
    "mdd": lambda steps: mdd(scale=reversal_schedule(steps)),
    "wdgrl": lambda steps: wdgrl(),
    "mcd": lambda steps: mcd(),
}
"""Name -> the term beside the source's cross-entropy, given the steps there are; None is no term."""
