"""A rank that is an array: factors of the largest rank, of which only the first columns count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from jaxft.errors import InputError
from jaxft.types import Array


@dataclass(frozen=True)
class MaskedRank:
    """A rank of `lora` that may be traced, so that one program serves several.

    It computes with as many columns as the largest rank has and masks those beyond its own, whose gradients are zero:
    what is learned is what a rank of that size learns. Its value may enter equations, as in ``alpha = 2 * rank.value``.

    Attributes:
        value: r, a scalar whole number from 1 to the largest.
        largest: the columns computed.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import jaxft as ft
        >>> adaptation = ft.lora("query", rank=MaskedRank(jnp.int32(2), largest=8))
        >>> frozen, delta = adaptation.init(jax.random.key(0), {"query": jnp.ones((6, 4))})
        >>> jax.tree.map(jnp.shape, delta)
        {'query': {'a': (6, 8), 'b': (8, 4)}}
    """

    value: Array
    largest: int

    def __mul__(self, other: object) -> NoReturn:
        raise InputError("a masked rank stands for several: write rank.value where a number enters an equation")

    __rmul__ = __add__ = __radd__ = __mul__
