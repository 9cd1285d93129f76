"""The low-rank leaf W + s·A·B, its factors kept apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.types import Array, Key
from jaxft.weights.aligned import Aligned
from jaxft.weights.structured import materialise


class LowRank(Aligned):
    """W + s·A·B.

    Attributes:
        base: W, an array or another structured weight.
        a: A with the rank as a last axis: full on batch and input axes, one on output axes.
        b: B with the rank as a last axis: full on batch and output axes, one on input axes.
        scale: s, broadcast against A and B.
        key: randomness of the dropout on the branch, all axes of size one or batch; None turns it off.
        rate: the dropout rate, shaped as the key.
    """

    a: Array
    b: Array
    scale: Array
    key: Key | None = None
    rate: Array | None = None
    extra: ClassVar[Mapping[str, int]] = {"a": 1, "b": 1, "scale": 1, "key": 0, "rate": 0}

    @property
    def kind(self) -> str:
        """What the weight is, in a word or two."""
        inner = getattr(self.base, "kind", "")
        return f"low-rank {self.rank}" + (f" on {inner}" if inner else "")

    @property
    def rank(self) -> int:
        """The rank r of A·B."""
        return self.a.shape[-1]

    def cast(self, base: Any, dtype: Any) -> LowRank:
        """The factors in another type; the scale stays in float32."""
        return dataclasses.replace(self, base=base, a=self.a.astype(dtype), b=self.b.astype(dtype))

    def rescale(self, base: Any, by_factor: Callable[[Array], Array]) -> LowRank:
        """The branch is multiplied by its scale."""
        return dataclasses.replace(self, base=base, scale=by_factor(self.scale))

    def scaled_b(self) -> Array:
        """B times the scale, in the dtype of B."""
        return self.b * self.scale.astype(self.b.dtype)

    def materialise(self) -> Array:
        """W + s·A·B, computed in float32 and returned in the dtype of W."""
        axes = list(range(self.a.ndim))
        product = jnp.einsum(
            *(self.a.astype(jnp.float32), axes),
            *(self.b.astype(jnp.float32) * self.scale.astype(jnp.float32), axes),
            axes[:-1],
            precision=jax.lax.Precision.HIGHEST,
        )
        base = materialise(self.base)
        return (base.astype(jnp.float32) + product).astype(base.dtype)


def low_rank(
    w: Any,
    a: Array,
    b: Array,
    *,
    scale: float | Array = 1.0,
    batch_axes: int = 0,
    key: Key | None = None,
    dropout: float | Array = 0.0,
) -> LowRank:
    """Puts a low-rank branch beside a weight.

    Args:
        w: ``[*batch, *in, *out]``, an array or a structured weight.
        a: ``[*batch, *in, rank]``.
        b: ``[*batch, rank, *out]``.
        scale: s, a scalar.
        batch_axes: how many leading axes stack independent weights, such as layers.
        key: randomness for the dropout on the branch; None turns it off.
        dropout: rate in [0, 1) at which the inputs of the branch are dropped.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> w = low_rank(jnp.zeros((4, 2, 3)), jnp.ones((4, 5)), jnp.ones((5, 2, 3)), scale=0.5)
        >>> w.shape, w.rank
        ((4, 2, 3), 5)
    """
    stack, inputs, outputs = a.shape[:batch_axes], a.shape[batch_axes:-1], b.shape[batch_axes + 1 :]
    if w.shape != (*stack, *inputs, *outputs) or b.shape[: batch_axes + 1] != (*stack, a.shape[-1]):
        raise InputError(
            f"a low-rank branch expects W [*batch, *in, *out], A [*batch, *in, rank] and B [*batch, rank, *out], "
            f"but W is {list(w.shape)}, A {list(a.shape)} and B {list(b.shape)} with {batch_axes} batch axes"
        )
    wide_a = a.reshape(*stack, *inputs, *(1 for _ in outputs), a.shape[-1])
    wide_b = jnp.moveaxis(b, batch_axes, -1).reshape(*stack, *(1 for _ in inputs), *outputs, a.shape[-1])
    ones = (*stack, *(1 for _ in (*inputs, *outputs)))
    if key is not None and not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)  # one of jax.random.PRNGKey
    return LowRank(
        base=w,
        a=wide_a,
        b=wide_b,
        scale=jnp.broadcast_to(jnp.asarray(scale, jnp.float32), (*ones, 1)),
        key=None if key is None else jax.random.split(key, int(np.prod(ones))).reshape(ones),
        rate=None if key is None else jnp.broadcast_to(jnp.asarray(dropout, jnp.float32), ones),
    )
