"""The batches of a run, cut from columns on the device in the order of the seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxft.study.order import Order
from jaxft.types import Array, Batch, Key

Orders = dict[str | None, Array]
View = str | None


class Feed(NamedTuple):
    """The training rows of every view.

    Attributes:
        columns: view -> name -> ``[rows, …]``.
        orders: view -> the order of its rows.
        keys: view -> the randomness of its order.
    """

    columns: Mapping[View, Mapping[str, Array]]
    orders: Mapping[View, Order]
    keys: Mapping[View, Key]

    def start(self) -> Orders:
        """The first epoch of every view."""
        return {view: order.epoch(self.keys[view], 0) for view, order in self.orders.items()}

    def batch(self, epochs: Orders, step: Array | int) -> Batch:
        """The batch of a step of the epochs under way."""
        return whole({view: self._part(view, epochs[view], step) for view in self.orders})

    def advance(self, epochs: Orders, step: Array) -> Orders:
        """The epochs of the step after this one."""
        return {view: self._next(view, epochs[view], step + 1) for view in self.orders}

    def _part(self, view: View, epoch: Array, step: Array | int) -> dict[str, Any]:
        rows, mask = self.orders[view].batch(epoch, step)
        columns = self.columns[view]
        return {name: jax.tree.map(lambda column: column[rows], column) for name, column in columns.items()} | {
            "mask": mask
        }

    def _next(self, view: View, epoch: Array, step: Array) -> Array:
        order = self.orders[view]
        number, place = jnp.divmod(step, order.steps_per_epoch)
        return jax.lax.cond(place == 0, lambda: order.epoch(self.keys[view], number), lambda: epoch)


def whole(parts: Mapping[View, Any]) -> Any:
    """The batch of all views: that of the one without a name, or the dict of them."""
    return parts.get(None, parts)


def feed(columns: Mapping[View, Mapping[str, Any]], key: Key, *, batch_size: int, chosen: int | None) -> Feed:
    """The feed of a run.

    Args:
        columns: view -> name -> ``[rows, …]``.
        key: the randomness of the order.
        batch_size: rows a step, of every view.
        chosen: train on so many rows; of several views, on so many with labels.
    """
    orders = {
        view: Order(jax.tree.leaves(part)[0].shape[0], batch_size, chosen if view is None or "labels" in part else None)
        for view, part in columns.items()
    }
    keys = {view: jax.random.fold_in(key, index) for index, view in enumerate(sorted(columns, key=str))}
    return Feed(columns, orders, keys)
