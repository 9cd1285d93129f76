"""Whose rows batch norm sees: the policy for running statistics where a step reads several domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError, nearest
from jaxft.types import DomainStatistics, PyTree

POLICIES = ("joint", "separate", "source", "frozen", "adabn")
TARGET = "target"
"""The view whose rows are those of the target."""


def statistics_of(stats: PyTree, view: str = TARGET) -> PyTree:
    """The running statistics to evaluate a domain with, from the state of a step.

    Args:
        stats: ``state.stats``; those of a policy other than "separate" are for all views.
        view: whose.

    Raises:
        InputError: the statistics are kept apart, and none are of that view.

    Example:
        >>> from jaxft.types import DomainStatistics
        >>> statistics_of(DomainStatistics({"source": {"mean": 0.0}, "target": {"mean": 1.0}}))
        {'mean': 1.0}
    """
    if not isinstance(stats, DomainStatistics):
        return stats
    if view not in stats.views:
        raise InputError(f"there are running statistics of {', '.join(stats.views)}, but none of {view!r}")
    return stats.views[view]


def check_policy(policy: str | None, moved: Mapping[Any, bool], views: Mapping[str, Any]) -> None:
    """Refuses a policy that does not fit the model, and statistics that would mix domains without saying so.

    Args:
        policy: as `make_step` says.
        moved: view -> whether training on it moves running statistics; those that the objective runs.
        views: the batch.

    Raises:
        InputError: see above.
    """
    if policy is not None and policy not in POLICIES:
        raise InputError(f"there is no policy {policy!r} for statistics ({nearest(policy, POLICIES)})")
    moving = [view for view, moves in moved.items() if moves]
    if policy is None:
        if len(moving) > 1:
            raise InputError(
                f"the objective runs batch norm on the views {', '.join(map(repr, moving))}, and their statistics "
                f"would mix; say whose they are: make_step(…, statistics=…) with one of {', '.join(POLICIES)}"
            )
        return
    if not moved:
        raise InputError(f"the model has no running statistics, so leave statistics={policy!r} out")
    if not moving:
        raise InputError(
            f"statistics={policy!r} is for batch norm whose running statistics move in training, but these do not; "
            "leave it out to keep them, or load the model with update_stats=True"
        )
    if policy != "frozen" and None in moved:
        raise InputError(
            f"statistics={policy!r} tells the views of a batch apart, but the objective runs the model on the whole "
            "batch; name views, as in cross_entropy('source')"
        )
    if policy == "adabn" and TARGET not in views:
        raise InputError(f"statistics='adabn' are those of the view {TARGET!r}, but the batch has {sorted(views)}")


def by_its_batch(policy: str | None, view: str | None) -> bool:
    """Whether training normalises a view by its batch; else by the running statistics, as evaluation does."""
    return policy != "frozen" and not (policy == "source" and view == TARGET)


def moves(policy: str | None, view: str | None) -> bool:
    """Whether training on a view moves the running statistics."""
    return policy != "adabn" or view == TARGET
