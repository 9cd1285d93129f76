"""Whether a model uses what an adaptation adds to its params."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters.partial_eval import dce_jaxpr

from jaxft.errors import InputError
from jaxft.trees import leaf_paths
from jaxft.types import Params
from jaxft.weights import is_structured


def check_added(loss: Callable[[Params], Any], base: Params, bound: Params) -> None:
    """Refuses leaves that were added to the params and that the loss does not depend on.

    A model ignores params that it does not know: without this they would be trained by nothing. The loss is traced, and
    only where something was added.

    Args:
        loss: of bound params, a scalar.
        base: the params of the model.
        bound: what the adaptation makes of them.

    Raises:
        InputError: naming such leaves.
    """
    known = leaf_paths(base, is_leaf=is_structured)
    added = [path for path in leaf_paths(bound, is_leaf=is_structured) if path not in known]
    if not added:
        return
    program = jax.make_jaxpr(loss)(bound).jaxpr
    _, read = dce_jaxpr(program, [True] * len(program.outvars))
    used = dict(zip(leaf_paths(bound), read, strict=True))
    if unread := [path for path in added if not used[path]]:
        raise InputError(
            f"the loss does not depend on {', '.join(unread[:4])}{', …' if len(unread) > 4 else ''}, which the "
            "adaptation adds to the params: the model has no such slot, or the objective reads nothing behind it; the "
            "models of load_model have those that jaxft.bottleneck, parallel_adapter, prompt and prefix name"
        )
