"""Control flow over structured weights: rematerialised bodies, loops, and scans that would cut a weight apart."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import jax
import quax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core.primitives import remat_p, scan_p, while_p
from jaxtyping import ArrayLike
from quax._compat import unpack_scan_args
from quax._primitives import scan_quax, while_quax

from jaxft.weights.structured import Structured, is_structured, lift


@quax.register(remat_p)
def _(*args: ArrayLike | Structured, jaxpr: Any, prevent_cse: Any, policy: Any, **_: Any) -> Any:
    body = lift(jaxpr_as_fun(ClosedJaxpr(jaxpr, ())))
    always = prevent_cse if isinstance(prevent_cse, bool) else any(prevent_cse)
    return jax.checkpoint(lambda *values: body(*values), prevent_cse=always, policy=policy)(*args)


@quax.register(scan_p, precedence=1)
def _(*args: ArrayLike | quax.ArrayValue, jaxpr: Any, **params: Any) -> Any:
    # A scan cuts every part of a weight along its first axis: right for a stack of weights, where all parts have that
    # axis, and wrong for one weight cut into rows, which quax would let through.
    for x in unpack_scan_args(args, params)[2]:
        if is_structured(x) and not x.is_stack():
            return Structured.default(scan_p, (x,), params)
    return scan_quax(*args, jaxpr=_own(jaxpr, _shapes(args)), **params)


@quax.register(while_p, precedence=1)
def _(*args: ArrayLike | quax.ArrayValue, cond_jaxpr: Any, body_jaxpr: Any, **params: Any) -> Any:
    shapes = _shapes(args)
    return while_quax(*args, cond_jaxpr=_own(cond_jaxpr, shapes), body_jaxpr=_own(body_jaxpr, shapes), **params)


@lru_cache(maxsize=256)
def _own(jaxpr: Any, shapes: tuple[tuple[int, ...], ...]) -> Any:
    """A body of its own for each set of shapes.

    Quax remembers a traced body by its identity and the tree structure of its arguments, which are the same for weights
    of one shape whose parts have others, such as those of another rank.
    """
    del shapes
    return copy.copy(jaxpr)


def _shapes(args: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(jax.numpy.shape(part) for part in jax.tree.leaves(args))
