"""The scaled leaf W·f, a factor along some of its axes kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.types import Array
from jaxft.weights.aligned import Aligned
from jaxft.weights.structured import materialise


class Scaled(Aligned):
    """W·f.

    Attributes:
        base: W, an array or another structured weight.
        factor: f, with an axis for every axis of W, of size one where it does not depend on it.
    """

    factor: Array
    extra: ClassVar[Mapping[str, int]] = {"factor": 0}

    @property
    def kind(self) -> str:
        """What the weight is, in a word or two."""
        inner = getattr(self.base, "kind", "")
        return f"scaled {inner}".strip()

    def materialise(self) -> Array:
        """W·f, computed in float32 and returned in the dtype of W."""
        base = materialise(self.base)
        return (base.astype(jnp.float32) * self.factor.astype(jnp.float32)).astype(base.dtype)


def scaled(w: Any, factor: Array) -> Scaled:
    """Puts a factor beside a weight.

    Args:
        w: an array or a structured weight.
        factor: as many axes as w, each of the same size or one.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> w = scaled(jnp.ones((2, 3)), jnp.array([[1.0, 2.0, 3.0]]))
        >>> w.materialise()[0]
        Array([1., 2., 3.], dtype=float32)
    """
    if factor.ndim != w.ndim or any(f not in (1, n) for f, n in zip(factor.shape, w.shape, strict=True)):
        raise InputError(
            f"a factor expects an axis for every axis of its weight, of the same size or one, but the weight is "
            f"{list(w.shape)} and the factor {list(factor.shape)}"
        )
    return Scaled(base=w, factor=factor)
