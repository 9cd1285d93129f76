"""Which rows a step sees: a function of the seed, inside the compiled program and beside it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxft.types import Array, Key


class Order(NamedTuple):
    """The order of one view's rows.

    Every epoch visits each row once, in an order drawn anew; the places of its last batch that rows do not fill repeat
    the epoch's first rows and are masked.

    Attributes:
        rows: how many rows there are.
        batch_size: places a batch.
        chosen: train on so many of the rows, drawn once; None chooses all.
    """

    rows: int
    batch_size: int
    chosen: int | None = None

    @property
    def used(self) -> int:
        """The rows that take part."""
        return self.rows if self.chosen is None else min(self.chosen, self.rows)

    @property
    def steps_per_epoch(self) -> int:
        """The batches that visit every row once."""
        return -(-self.used // self.batch_size)

    def epoch(self, key: Key, number: Array | int) -> Array:
        """The rows of an epoch in order, ``[steps_per_epoch × batch_size]``.

        Args:
            key: the randomness of the view.
            number: which epoch, from 0.
        """
        subset_key, epoch_key = jax.random.split(key)
        subset = jax.random.permutation(subset_key, self.rows)[: self.used]
        order = jax.random.permutation(jax.random.fold_in(epoch_key, number), self.used)
        places = jnp.arange(self.steps_per_epoch * self.batch_size)
        shuffled = order[places % self.used]
        return shuffled if self.chosen is None else subset[shuffled]

    def batch(self, order: Array, step: Array | int) -> tuple[Array, Array]:
        """The rows of a step of the epoch ``order`` and which of them count, ``[batch_size]`` each."""
        first = (step % self.steps_per_epoch) * self.batch_size
        rows = jax.lax.dynamic_slice(order, (first,), (self.batch_size,))
        return rows, first + jnp.arange(self.batch_size) < self.used
