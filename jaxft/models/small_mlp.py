"""Small nets of dense layers: one for rows of features, one for rows of two sizes that meet in a shared space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.types import Array, Key, Model, Outputs, Params


def small_mlp(inputs: int, *, num_labels: int, hidden: Sequence[int] = (100,), seed: int | Array = 0) -> Model:
    """Dense layers with ReLU and a head, on rows of features such as those of a frozen model.

    Weights start as He et al. propose, biases at zero.

    Args:
        inputs: numbers of a row: the model reads ``features`` ``[batch, inputs]``.
        num_labels: outputs of the head.
        hidden: units of each layer; the last are the features that the head reads.
        seed: of the weights; may be traced.

    Raises:
        InputError: a size below one, no layer, or at ``apply`` rows of another size.

    Example:
        >>> model = small_mlp(64, num_labels=10)
        >>> outputs = model.apply(model.params, {"features": jnp.zeros((2, 64))})
        >>> outputs.logits.shape, outputs.features.shape, sorted(model.params)
        ((2, 10), (2, 100), ['head', 'hidden_0'])

    References:
        He et al., "Delving Deep into Rectifiers", 2015.
    """
    _check_sizes(inputs=inputs, num_labels=num_labels, hidden=hidden)
    names = [f"hidden_{place}" for place in range(len(hidden))]
    keys = jax.random.split(jax.random.key(seed), len(hidden) + 1)
    params: Params = {
        name: _layer(key, before, after)
        for name, key, before, after in zip(names, keys, (inputs, *hidden), hidden, strict=False)
    }
    params["head"] = _layer(keys[-1], hidden[-1], num_labels)

    def apply(params: Params, batch: Mapping[str, Any], *, train: bool = False, key: Key | None = None) -> Outputs:
        del train, key
        states = [_rows(batch, inputs)]
        for name in names:
            states.append(_dense(states[-1], params[name]))
        logits = states[-1] @ params["head"]["kernel"] + params["head"]["bias"]
        return Outputs(logits=logits, features=states[-1], hidden_states=tuple(states))

    return Model(apply, params, None)


def two_encoders(
    source_inputs: int,
    target_inputs: int,
    *,
    num_labels: int,
    hidden: int = 100,
    shared: int = 64,
    seed: int | Array = 0,
) -> Model:
    """An encoder for each domain into one space, and one head: for domains whose features differ in size.

    A view is the source's or the target's by the size of its rows; equal sizes are told apart by the name of the
    column, ``source_features`` or ``target_features``, which is always understood. Objectives that compare domains
    then see features of one size.

    Args:
        source_inputs: numbers of a row of the source.
        target_inputs: of the target.
        num_labels: outputs of the head.
        hidden: units of each encoder's hidden layer.
        shared: units of the space in which they meet, which are the features.
        seed: of the weights; may be traced.

    Raises:
        InputError: a size below one, or at ``apply`` rows that are neither's.

    Example:
        >>> model = two_encoders(784, 64, num_labels=10)
        >>> source = model.apply(model.params, {"source_features": jnp.zeros((2, 784))})
        >>> target = model.apply(model.params, {"target_features": jnp.zeros((3, 64))})
        >>> source.features.shape, target.features.shape, sorted(model.params)
        ((2, 64), (3, 64), ['head', 'source_encoder', 'target_encoder'])

    References:
        Yao et al., "Heterogeneous Domain Adaptation via Soft Transfer Network", 2019.
    """
    sizes = {"source": source_inputs, "target": target_inputs}
    _check_sizes(
        source_inputs=source_inputs, target_inputs=target_inputs, num_labels=num_labels, hidden=(hidden, shared)
    )
    keys = iter(jax.random.split(jax.random.key(seed), 5))
    params: Params = {
        f"{domain}_encoder": {
            "hidden": _layer(next(keys), size, hidden),
            "shared": _layer(next(keys), hidden, shared),
        }
        for domain, size in sizes.items()
    }
    params["head"] = _layer(next(keys), shared, num_labels)

    def apply(params: Params, batch: Mapping[str, Any], *, train: bool = False, key: Key | None = None) -> Outputs:
        del train, key
        domain, x = _domain(batch, sizes)
        encoder = params[f"{domain}_encoder"]
        features = jnp.tanh(_dense(x, encoder["hidden"]) @ encoder["shared"]["kernel"] + encoder["shared"]["bias"])
        return Outputs(logits=features @ params["head"]["kernel"] + params["head"]["bias"], features=features)

    return Model(apply, params, None)


def _domain(batch: Mapping[str, Any], sizes: Mapping[str, int]) -> tuple[str, Array]:
    """Whose rows these are, and the rows."""
    for domain, size in sizes.items():
        column = f"{domain}_features"
        if column in batch:
            return domain, _rows({"features": batch[column]}, size)
    found = jnp.shape(batch["features"])[1:] if "features" in batch else ()
    matching = [domain for domain, inputs in sizes.items() if found == (inputs,)]
    if len(matching) != 1:
        columns = ", ".join(f"{name} {list(jnp.shape(value))}" for name, value in batch.items())
        raise InputError(
            f"the model reads source_features [batch, {sizes['source']}] or target_features "
            f"[batch, {sizes['target']}], or features of one of these sizes where they differ, but the view has "
            f"{columns}"
        )
    return matching[0], _rows(batch, sizes[matching[0]])


def _rows(batch: Mapping[str, Any], inputs: int) -> Array:
    if "features" not in batch or jnp.shape(batch["features"])[1:] != (inputs,):
        found = list(jnp.shape(batch["features"])) if "features" in batch else f"only {', '.join(batch)}"
        raise InputError(f"the model reads features [batch, {inputs}], but the view has {found}")
    return jnp.asarray(batch["features"])


def _dense(x: Array, layer: Mapping[str, Any]) -> Array:
    return jax.nn.relu(x @ layer["kernel"] + layer["bias"])


def _layer(key: Key, inputs: int, outputs: int) -> dict[str, Any]:
    kernel = jax.random.normal(key, (inputs, outputs)) * math.sqrt(2 / inputs)
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def _check_sizes(*, hidden: Sequence[int], **sizes: int) -> None:
    for name, value in {**sizes, **{f"hidden[{place}]": units for place, units in enumerate(hidden)}}.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"{name} is a whole number from 1 up, but is {value!r}")
    if not hidden:
        raise InputError("small_mlp needs one hidden layer or more, whose last units are the features")
