"""Forward passes of a bound model within one step: each view once, with its own randomness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxft.errors import InputError
from jaxft.trees import join, leaf_paths, map_with_path
from jaxft.types import PREFIX, Batch, Delta, Key, Outputs, Params, PyTree


class Forward:
    """Runs the bound model on views of the batch, once each; running statistics pass from one run to the next.

    A view has one key: a run with changed inputs drops the same units as the run without, unless it names a key. A run
    with another delta is of another model: it reads the running statistics of this one and leaves them as they are.
    ``stats`` are those of now, ``found`` what the model returned, by path.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        params: Params,
        stats: PyTree,
        batch: Batch,
        key: Key,
        bind: Callable[[Delta], Params],
    ):
        self._apply, self._params, self._batch, self._key, self._bind = apply, params, batch, key, bind
        self.stats, self.found = stats, dict[str, jax.Array]()
        self._cache: dict[str | None, Outputs] = {}
        self._order: dict[str | None, int] = {}

    def __call__(
        self,
        view: str | None = None,
        *,
        train: bool = True,
        key: Key | None = None,
        delta: Delta | None = None,
        **changes: Any,
    ) -> Outputs:
        plain = train and key is None and delta is None and not changes
        if plain and view in self._cache:
            return self._cache[view]
        if view is not None and view not in self._batch:
            raise InputError(f"the objective reads the view {view!r}, but the batch has {sorted(self._batch)}")
        inputs = _for_the_model({**(self._batch if view is None else self._batch[view]), **changes})
        if changes.keys() - {PREFIX}:
            inputs.pop(PREFIX, None)  # these are the activations of the inputs as they were
        of_view = jax.random.fold_in(self._key, self._order.setdefault(view, len(self._order)))
        params = self._params if delta is None else self._bind(delta)
        params = params if self.stats is None else join(self.stats, params)
        outputs = as_outputs(self._apply(params, inputs, train=train, key=of_view if key is None else key))
        if train and delta is None and outputs.stats is not None:
            self.found |= leaf_paths(jax.lax.stop_gradient(outputs.stats))
            self.stats = map_with_path(lambda path, leaf: self.found.get(path, leaf), self.stats)
        if plain:
            self._cache[view] = outputs
        return outputs


def _for_the_model(batch: Batch) -> dict[str, Any]:
    """The batch, or each of its views, without labels and mask."""
    return {
        name: _for_the_model(value) if isinstance(value, Mapping) else value
        for name, value in batch.items()
        if name not in ("labels", "mask")
    }


def as_outputs(result: Any) -> Outputs:
    """Takes a bare array from a plain function as logits."""
    return result if isinstance(result, Outputs) else Outputs(logits=result)
