"""What convolutional nets are built from: convolutions, batch norm with running statistics, and pooling.

Pixels and maps are ``[batch, height, width, channels]``, kernels ``[height, width, inputs, outputs]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxft.models.config import ImageConfig
from jaxft.models.keys import Entry, norm
from jaxft.models.layers import cast

Padding = Literal["centred", "same"]


@dataclass(frozen=True, kw_only=True)
class ConvolutionalConfig(ImageConfig):
    """Of a convolutional net.

    Attributes:
        update_stats: whether training normalises by the batch and moves the running statistics towards it. Where it
            does not, they stay those of the files, which is right when little learns or batches are small.
    """

    update_stats: bool = field(default=False, compare=False)


class NormSpec(NamedTuple):
    """Of every convolution of a net and its norm.

    Attributes:
        padding: "centred" puts size // 2 on every side; "same" as much in all as makes the output ceil(input / stride)
            long, the odd one at the bottom and right.
        eps: added to the variance.
        momentum: the share of a batch in the new running statistics.
        update_stats: as :class:`ConvolutionalConfig` says.
        dtype: of computation.
    """

    padding: Padding
    eps: float
    momentum: float
    update_stats: bool
    dtype: Any


_STATISTICS = {"mean": nn.initializers.zeros, "var": nn.initializers.ones}


class BatchNorm(nn.Module):
    """(x − mean) / sqrt(var + eps) · scale + bias for each channel, in float32 whatever the input.

    Mean and variance are the running ones, or with ``update_stats`` in training those of the batch; the new running
    ones, (1 − m) running + m batch, are then sown into the collection "stats" at the paths they have in the params. In
    training without ``update_stats`` they are sown as they are, so that a step never takes them for what learns.

    References:
        Ioffe and Szegedy. Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
        Shift, 2015.
    """

    spec: NormSpec

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        s, shape = self.spec, (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running = {name: self.param(name, init, shape) for name, init in _STATISTICS.items()}
        mean, var = (lax.stop_gradient(value) for value in running.values())
        wide = x.astype(jnp.float32)
        if train:
            if s.update_stats:
                mean = wide.mean(axis=(0, 1, 2))
                var = jnp.square(wide - mean).mean(axis=(0, 1, 2))
                count = wide.size // wide.shape[-1]
                batch = {"mean": mean, "var": var * (count / max(count - 1, 1))}  # running variances are unbiased
                running = jax.tree.map(lambda old, new: (1 - s.momentum) * old + s.momentum * new, running, batch)
            for name, value in running.items():
                self.sow("stats", name, value, reduce_fn=lambda _, new: new, init_fn=lambda: None)
        return ((wide - mean) * (scale * lax.rsqrt(var + s.eps)) + bias).astype(x.dtype)


class Convolution(nn.Module):
    """A convolution without bias and its batch norm, whose parameters are called ``norm``; no activation."""

    spec: NormSpec
    outputs: int
    size: int = 1
    stride: int = 1
    depthwise: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        inputs = 1 if self.depthwise else x.shape[-1]
        kernel = self.param("kernel", nn.initializers.zeros, (self.size, self.size, inputs, self.outputs))
        function = depthwise if self.depthwise else convolve
        return BatchNorm(self.spec, name="norm")(
            function(x, cast(kernel, self.spec.dtype), self.stride, self.spec.padding), train
        )


def pads(padding: Padding, length: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis.

    Example:
        >>> pads("same", 8, 3, 2), pads("same", 9, 3, 2), pads("centred", 8, 3, 2)
        ((0, 1), (1, 1), (1, 1))
    """
    if padding == "centred":
        return size // 2, size // 2
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def convolve(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """y[i, j] = Σ_ab x[i·stride + a, j·stride + b] · W[a, b]; a kernel of one by one is a flat matrix product."""
    size, _, inputs, outputs = kernel.shape
    if size == 1:
        seen = x[:, ::stride, ::stride]
        return (seen.reshape(-1, inputs) @ kernel.reshape(inputs, outputs)).reshape(*seen.shape[:-1], outputs)
    around = [pads(padding, length, size, stride) for length in x.shape[1:3]]
    return lax.conv_general_dilated(x, kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def depthwise(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """y[i, j, c] = Σ_ab x[i·stride + a, j·stride + b, c] · W[a, b, 0, c].

    A sum over the taps of shifted images: on CPUs ten to thirty times as fast as a grouped convolution.
    """
    size = kernel.shape[0]
    total = jnp.zeros((), x.dtype)
    for tap, image in enumerate(_shifted(x, size, stride, padding, 0)):
        total = total + image * kernel[tap // size, tap % size, 0]
    return total


def max_pool(x: Array, size: int, stride: int, padding: Padding) -> Array:
    """The largest value of each window."""
    largest, *others = _shifted(x, size, stride, padding, -jnp.inf)
    for image in others:
        largest = jnp.maximum(largest, image)
    return largest


def _shifted(x: Array, size: int, stride: int, padding: Padding, fill: float) -> Iterator[Array]:
    """The image that each tap of a window sees, row by row of the window."""
    around = [pads(padding, length, size, stride) for length in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), *around, (0, 0)), constant_values=fill)
    last = [(length - size) // stride * stride + 1 for length in padded.shape[1:3]]
    for row in range(size):
        for column in range(size):
            yield padded[:, row : row + last[0] : stride, column : column + last[1] : stride]


def mean_features(x: Array) -> Array:
    """The mean over the image, ``[batch, channels]`` in float32."""
    return x.astype(jnp.float32).mean(axis=(1, 2))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return jax.nn.relu6(x)


def kernel_entry(path: str, name: str, shape: tuple[int, int, int, int]) -> Entry:
    """A kernel, which torch stores as [outputs, inputs, height, width]."""
    return Entry(f"{path}/kernel", f"{name}.weight", shape, (2, 3, 1, 0))


def norm_entries(path: str, name: str, size: int) -> list[Entry]:
    """A batch norm with its running statistics."""
    return [
        *norm(f"{path}/norm", name, size),
        Entry(f"{path}/norm/mean", f"{name}.running_mean", (size,)),
        Entry(f"{path}/norm/var", f"{name}.running_var", (size,)),
    ]
