"""Control flow that quax has no rule for: rematerialisation of a body that holds structured weights."""

from __future__ import annotations

from typing import Any

import jax
import quax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.extend.core.primitives import remat_p
from jaxtyping import ArrayLike

from jaxft.weights.structured import Structured, lift


@quax.register(remat_p)
def _(*args: ArrayLike | Structured, jaxpr: Any, prevent_cse: Any, policy: Any, **_: Any) -> Any:
    body = lift(jaxpr_as_fun(ClosedJaxpr(jaxpr, ())))
    always = prevent_cse if isinstance(prevent_cse, bool) else any(prevent_cse)
    return jax.checkpoint(lambda *values: body(*values), prevent_cse=always, policy=policy)(*args)
