"""Forward passes of a bound model within one step: each view once, with its own randomness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.train.statistics import TARGET, by_its_batch, moves, statistics_of
from jaxft.trees import join, leaf_paths, map_with_path
from jaxft.types import PREFIX, Batch, Delta, DomainStatistics, Key, Outputs, Params, PyTree, is_input

_ALL = ("all views",)


class Forward:
    """Runs the bound model on views of the batch, once each; running statistics pass from one run to the next.

    A view has one key: a run with changed inputs drops the same units as the run without, unless it names a key. A run
    with another delta is of another model: it reads the running statistics of this one and leaves them as they are.
    ``stats`` are those of now, ``found`` what the model returned, by path, ``moved`` on which views they changed.
    """

    def __init__(
        self,
        apply: Callable[..., Any],
        params: Params,
        stats: PyTree,
        batch: Batch,
        key: Key,
        bind: Callable[[Delta], Params],
        policy: str | None = None,
    ):
        self._apply, self._params, self._batch, self._key, self._bind = apply, params, batch, key, bind
        self._policy = policy
        self.stats, self.found, self.moved = stats, dict[str, jax.Array](), dict[str | None, bool]()
        self._cache: dict[str | None, Outputs] = {}
        self._order: dict[Any, int] = {}

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
        params = self._params if delta is None else self._bind(delta)
        if self._policy == "joint" and train:
            together = self._together(params, view, inputs, key, own=delta is None)
            if plain:
                self._cache |= together
            return together[view]
        train = train and by_its_batch(self._policy, view)
        outputs = self._run(params, view, inputs, train, self._key_of(view) if key is None else key, own=delta is None)
        if plain:
            self._cache[view] = outputs
        return outputs

    def gathered(self) -> PyTree:
        """The running statistics after the step; those of AdaBN need the target's rows, whether or not a term does."""
        if self._policy == "adabn" and TARGET not in self._cache:
            inputs = _for_the_model(self._batch[TARGET])
            still = jax.lax.stop_gradient(self._params)
            self._run(still, TARGET, inputs, True, self._key_of(TARGET), own=True)
        return self.stats

    def _key_of(self, view: Any) -> Key:
        return jax.random.fold_in(self._key, self._order.setdefault(view, len(self._order)))

    def _run(
        self, params: Params, view: str | None, inputs: dict[str, Any], train: bool, key: Key, *, own: bool
    ) -> Outputs:
        before = statistics_of(self.stats, TARGET if view is None else view)
        whole = params if before is None else join(before, params)
        outputs = as_outputs(self._apply(whole, inputs, train=train, key=key))
        if train and own and outputs.stats is not None and moves(self._policy, view):
            found = leaf_paths(jax.lax.stop_gradient(outputs.stats))
            self._remember(view, whole, outputs.stats)
            self.found |= found
            after = map_with_path(lambda path, leaf: found.get(path, leaf), before)
            self.stats = self._with(view, after)
        return outputs

    def _with(self, view: str | None, after: PyTree) -> PyTree:
        if view is None or not isinstance(self.stats, DomainStatistics):
            return after
        return DomainStatistics({**self.stats.views, view: after})

    def _remember(self, view: str | None, params: Params, stats: PyTree) -> None:
        """A leaf that the model returns as it read it has not moved."""
        old = leaf_paths(params)
        changed = any(old.get(path) is not leaf for path, leaf in leaf_paths(stats).items())
        self.moved[view] = self.moved.get(view, False) or changed

    def _together(
        self, params: Params, view: str | None, inputs: dict[str, Any], key: Key | None, *, own: bool
    ) -> dict[str | None, Outputs]:
        """One pass over the rows of all views, so that batch norm sees them as one batch."""
        parts: dict[str | None, dict[str, Any]] = {
            name: inputs if name == view else _for_the_model(part)
            for name, part in self._batch.items()
            if isinstance(part, Mapping)
        }
        shared = [name for name in inputs if all(_alike(part.get(name), inputs[name]) for part in parts.values())]
        if not shared:
            columns = "; ".join(f"{name!r} has {', '.join(sorted(part))}" for name, part in parts.items())
            raise InputError(
                f"statistics='joint' run all views as one batch, for which they need the same inputs: {columns}"
            )
        rows = {name: jnp.concatenate([part[name] for part in parts.values()]) for name in shared}
        outputs = self._run(params, view, rows, True, self._key_of(_ALL) if key is None else key, own=own)
        apart: dict[str | None, Outputs] = {}
        begin = 0
        for name, part in parts.items():
            end = begin + len(part[shared[0]])
            apart[name] = jax.tree.map(lambda leaf, a=begin, b=end: leaf[a:b], outputs._replace(stats=None))
            begin = end
        return apart


def _alike(column: Any, other: Any) -> bool:
    return column is not None and jnp.ndim(column) > 0 and column.shape[1:] == other.shape[1:]


def _for_the_model(batch: Batch) -> dict[str, Any]:
    """The batch, or each of its views, without labels, mask and weights of rows."""
    return {
        name: _for_the_model(value) if isinstance(value, Mapping) else value
        for name, value in batch.items()
        if is_input(name)
    }


def as_outputs(result: Any) -> Outputs:
    """Takes a bare array from a plain function as logits."""
    return result if isinstance(result, Outputs) else Outputs(logits=result)
