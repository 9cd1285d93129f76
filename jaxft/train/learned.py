"""What an optimizer sees, ``{"delta": …, "weights": …}``: its names, and which slots belong to which array."""

from __future__ import annotations

from collections.abc import Mapping

from jaxft.adapt.names import delta_names
from jaxft.errors import InputError
from jaxft.trees import leaf_paths
from jaxft.types import PyTree

WEIGHTS = "weights/"
"""How the names of what an objective learns begin."""


def learned_names(learned: PyTree) -> dict[str, str]:
    """The name of every array by its path: where it is in the params, or ``weights/…`` for what an objective learns.

    Raises:
        InputError: the tree is not what a step gives its optimizer.

    Example:
        >>> learned_names({"delta": ({"query": {"a": 1}}, {"head": 2}), "weights": {"critic": 3}})
        {'delta/0/query/a': 'query/a', 'delta/1/head': 'head', 'weights/critic': 'weights/critic'}
    """
    if not isinstance(learned, Mapping) or "delta" not in learned or learned.keys() - {"delta", "weights"}:
        found = sorted(learned) if isinstance(learned, Mapping) else type(learned).__name__
        raise InputError(
            f"this optimizer expects what a step gives it, {{'delta': …, 'weights': …}}, but got {found}; "
            "call it with {'delta': params}"
        )
    names = {f"delta/{path}": name for path, name in delta_names(learned["delta"]).items()}
    return names | {f"{WEIGHTS}{path}": f"{WEIGHTS}{path}" for path in leaf_paths(learned.get("weights", ()))}


def owner(path: str, learned: Mapping[str, object]) -> str | None:
    """Which learned array a slot of an optimizer's state belongs to: the one whose path ends the slot's.

    Args:
        path: of the slot, such as ``"0/mu/delta/head/kernel"``.
        learned: by path.

    Returns:
        The path of the array; None for a slot of none, such as a count of steps.

    Example:
        >>> owner("0/mu/delta/head", {"delta/head": 0}), owner("0/count", {"delta/head": 0})
        ('delta/head', None)
    """
    keys = path.split("/")
    return next((tail for start in range(len(keys)) if (tail := "/".join(keys[start:])) in learned), None)
