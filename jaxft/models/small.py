"""A small convolutional net from scratch, fast inside compiled loops on any device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.types import Array, Key, Model, Outputs, Params

_STRIDE, _EPS, _MOMENTUM = 2, 1e-5, 0.1


def small_convnet(
    size: int,
    *,
    num_labels: int,
    channels: Sequence[int] = (32, 48),
    kernel_size: int = 3,
    hidden: int = 100,
    inputs: int = 1,
    norm: bool = False,
    seed: int | Array = 0,
) -> Model:
    """Convolutions of stride two with ReLU, one dense layer, and a head: for small pictures, many runs and papers.

    A convolution is computed as strided slices and one matrix product, because native convolutions lose their threads
    inside the loops of a CPU. Kernels are matrices ``[kernel_size² · inputs, outputs]``, so that every adaptation of a
    dense weight is one of theirs. Weights start as He et al. propose, biases at zero.

    Args:
        size: of the pictures: the model reads ``pixels`` ``[batch, size, size, inputs]``.
        num_labels: outputs of the head.
        channels: of each convolution.
        kernel_size: pixels on a side of its window.
        hidden: units of the dense layer, which are the features.
        inputs: channels of the pictures.
        norm: normalises every convolution by the batch in training, and by running statistics in evaluation.
        seed: of the weights; may be traced.

    Raises:
        InputError: a size below one, pictures too small for so many convolutions, or at ``apply`` other pictures.

    Example:
        >>> model = small_convnet(16, num_labels=10)
        >>> outputs = model.apply(model.params, {"pixels": jnp.zeros((2, 16, 16, 1))})
        >>> outputs.logits.shape, outputs.features.shape, sorted(model.params)
        ((2, 10), (2, 100), ['convolution_0', 'convolution_1', 'head', 'hidden'])

    References:
        He et al., "Delving Deep into Rectifiers", 2015. Ioffe and Szegedy, "Batch Normalization", 2015.
    """
    numbers = {"size": size, "num_labels": num_labels, "kernel_size": kernel_size, "hidden": hidden, "inputs": inputs}
    for name, value in {**numbers, **{f"channels[{place}]": count for place, count in enumerate(channels)}}.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"{name} of a small_convnet is a whole number from 1 up, but is {value!r}")
    if size < _STRIDE ** len(channels):
        raise InputError(
            f"{len(channels)} convolutions of stride two need pictures of {2 ** len(channels)}, not {size}"
        )
    side, names = size, [f"convolution_{place}" for place in range(len(channels))]
    keys = iter(jax.random.split(jax.random.key(seed), len(channels) + 2))
    params: Params = {}
    for name, before, after in zip(names, (inputs, *channels), channels, strict=False):
        params[name] = _layer(next(keys), kernel_size**2 * before, after)
        if norm:
            ones, zeros = jnp.ones(after), jnp.zeros(after)
            params[name]["norm"] = {"scale": ones, "bias": zeros, "mean": zeros, "var": ones}
        side = -(-side // _STRIDE)
    params["hidden"] = _layer(next(keys), side * side * (channels[-1] if channels else inputs), hidden)
    params["head"] = _layer(next(keys), hidden, num_labels)

    def apply(params: Params, batch: Mapping[str, Any], *, train: bool = False, key: Key | None = None) -> Outputs:
        del key
        x = batch["pixels"]
        if x.shape[1:] != (size, size, inputs):
            raise InputError(f"the model reads pixels [batch, {size}, {size}, {inputs}], but they are {list(x.shape)}")
        stats, maps = dict[str, Any](), [x]
        for name in names:
            x = _windows(x, kernel_size) @ params[name]["kernel"] + params[name]["bias"]
            if norm:
                x, moved = _normalised(x, params[name]["norm"], train)
                stats[name] = {"norm": moved}
            x = jax.nn.relu(x)
            maps.append(x)
        features = jax.nn.relu(x.reshape(len(x), -1) @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        logits = features @ params["head"]["kernel"] + params["head"]["bias"]
        running = stats if norm and train else None
        return Outputs(logits=logits, features=features, hidden_states=tuple(maps), stats=running)

    return Model(apply, params, None)


def _layer(key: Key, inputs: int, outputs: int) -> dict[str, Any]:
    kernel = jax.random.normal(key, (inputs, outputs)) * math.sqrt(2 / inputs)
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def _windows(x: Array, size: int) -> Array:
    """What each place of the output sees, ``[batch, height, width, size² · channels]``; zeros around the picture."""
    outputs = [-(-length // _STRIDE) for length in x.shape[1:3]]
    totals = [max((n - 1) * _STRIDE + size - length, 0) for n, length in zip(outputs, x.shape[1:3], strict=True)]
    padded = jnp.pad(x, ((0, 0), *((total // 2, total - total // 2) for total in totals), (0, 0)))
    last = [(n - 1) * _STRIDE + 1 for n in outputs]
    shifted = [
        padded[:, row : row + last[0] : _STRIDE, column : column + last[1] : _STRIDE]
        for row in range(size)
        for column in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)


def _normalised(x: Array, norm: Mapping[str, Any], train: bool) -> tuple[Array, dict[str, Array]]:
    """Batch norm over all axes but the last, and the new running statistics, whose variance is unbiased."""
    running = {name: jax.lax.stop_gradient(norm[name]) for name in ("mean", "var")}
    mean, var = running["mean"], running["var"]
    if train:
        axes = tuple(range(x.ndim - 1))
        mean, var = x.mean(axes), x.var(axes)
        count = x.size // x.shape[-1]
        batch = {"mean": mean, "var": var * (count / max(count - 1, 1))}
        running = jax.tree.map(lambda old, new: (1 - _MOMENTUM) * old + _MOMENTUM * new, running, batch)
    return (x - mean) * jax.lax.rsqrt(var + _EPS) * norm["scale"] + norm["bias"], running
