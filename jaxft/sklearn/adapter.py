"""Domain adaptation of frozen features, with the face of a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from jaxft.adapt import full
from jaxft.errors import InputError, nearest
from jaxft.models import small_mlp
from jaxft.objectives import combine, cross_entropy
from jaxft.sklearn.methods import METHODS
from jaxft.train import make_step
from jaxft.types import Array, Params


class DomainAdapter(ClassifierMixin, BaseEstimator):
    """A small net on features, trained on a labelled source and an unlabelled target.

    Features are scaled by the source's mean and deviation. Training is one compiled program; the same numbers and
    ``random_state`` give the same net.

    Args:
        method: a name in ``jaxft.sklearn.METHODS``.
        weight: of the method's term beside the cross-entropy.
        hidden: units of each hidden layer.
        steps: updates.
        batch_size: rows a step of each domain.
        learning_rate: of Adam.
        random_state: of the weights and of the order of the rows, as scikit-learn has it.

    Attributes:
        classes_: the labels, ``[classes]``.
        n_features_in_: features of a row.
        history_: name of a metric -> its value at each step, ``[steps]``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = rng.integers(0, 2, 200)
        >>> X = y[:, None] * 4.0 + rng.normal(size=(200, 3))
        >>> adapter = DomainAdapter("mmd", steps=100, random_state=0).fit(X, y, X_target=X + 3)
        >>> adapter.score(X, y) > 0.9
        True

    References:
        Those of the methods, in the table of objectives.
    """

    def __init__(
        self,
        method: str = "dann",
        *,
        weight: float = 1.0,
        hidden: Sequence[int] = (100,),
        steps: int = 500,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        random_state: Any = None,
    ):
        self.method = method
        self.weight = weight
        self.hidden = hidden
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: Any, y: Any, X_target: Any = None) -> DomainAdapter:
        """Trains.

        Args:
            X: features of the source, ``[rows, features]``.
            y: labels of the source, ``[rows]``.
            X_target: features of the target, ``[rows, features]``; without, the source is all there is, whatever the
                method.

        Raises:
            InputError: there is no such method, a number is out of range, or the target does not fit the source.
            ValueError: what scikit-learn refuses: numbers that are not finite, one class alone, labels that are none.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"DomainAdapter tells classes apart, but y has one class alone: {self.classes_[0]!r}")
        target = X if X_target is None else self._target(X_target)
        self._mean, deviation = X.mean(0), X.std(0)
        self._deviation = np.where(deviation > 0, deviation, 1.0).astype(np.float32)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        rows = {"features": self._scaled(X), "labels": jnp.asarray(labels, jnp.int32)}
        self._params, metrics = _trained(
            jnp.uint32(seed),
            rows,
            {"features": self._scaled(target)},
            jnp.float32(self.weight),
            jnp.float32(self.learning_rate),
            method="source_only" if X_target is None else self.method,
            classes=len(self.classes_),
            hidden=tuple(int(units) for units in self.hidden),
            steps=int(self.steps),
            batch_size=int(self.batch_size),
        )
        self.history_ = {name: np.asarray(values) for name, values in metrics.items()}
        if not np.isfinite(self.history_["loss"]).all():
            raise InputError("training diverged: the loss is not a number; try a smaller learning_rate or weight")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, ``[rows, classes]``, in the order of ``classes_``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32)
        model = small_mlp(self.n_features_in_, num_labels=len(self.classes_), hidden=tuple(self.hidden))
        logits = model.apply(self._params, {"features": self._scaled(X)}).logits
        return np.asarray(jax.nn.softmax(logits), np.float64)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, ``[rows]``."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _check(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"there is no method {self.method!r} ({nearest(str(self.method), METHODS)})")
        whole = {"steps": self.steps, "batch_size": self.batch_size}
        for name, value in whole.items():
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name} is a whole number from 1 up, but is {value!r}")

    def _target(self, X_target: Any) -> np.ndarray:
        found = check_array(X_target, dtype=np.float32)
        if found.shape[1] != self.n_features_in_:
            raise InputError(
                f"the source has {self.n_features_in_} features and the target {found.shape[1]}; for features of "
                "different sizes see heterogeneous transfer: jaxft.two_encoders"
            )
        return np.asarray(found)

    def _scaled(self, X: np.ndarray) -> Array:
        return jnp.asarray((X - self._mean) / self._deviation)


@partial(jax.jit, static_argnames=("method", "classes", "hidden", "steps", "batch_size"))
def _trained(
    seed: Array,
    source: Any,
    target: Any,
    weight: Array,
    rate: Array,
    *,
    method: str,
    classes: int,
    hidden: tuple[int, ...],
    steps: int,
    batch_size: int,
) -> tuple[Params, Any]:
    """The net after all steps, and its metrics."""
    model = small_mlp(source["features"].shape[1], num_labels=classes, hidden=hidden, seed=seed)
    term, task = METHODS[method], cross_entropy("source")
    objective = combine(task=task) if term is None else combine(task=task, method=(term(steps), weight))
    step = make_step(model.apply, full(), objective, optax.adam(rate))
    init_key, source_key, target_key = jax.random.split(jax.random.key(seed), 3)
    orders = {
        view: _order(key, len(rows["features"]), steps * batch_size)
        for view, key, rows in (("source", source_key, source), ("target", target_key, target))
    }

    def batch(index: Array) -> Any:
        places = {
            view: jax.lax.dynamic_slice(order, (index * batch_size,), (batch_size,)) for view, order in orders.items()
        }
        views = {"source": source, "target": target}
        return {view: jax.tree.map(lambda column, view=view: column[places[view]], views[view]) for view in views}

    frozen, state = step.init(init_key, model.params, batch(jnp.int32(0)))
    state, metrics = jax.lax.scan(
        lambda state, index: step.update(frozen, state, batch(index)), state, jnp.arange(steps)
    )
    return full().bind(frozen.model, state.delta), metrics


def _order(key: Array, rows: int, count: int) -> Array:
    """So many rows, epoch after epoch, each in an order of its own."""
    epochs = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, -(-count // rows)))
    return epochs.reshape(-1)[:count]
