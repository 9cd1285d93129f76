"""EfficientNet-Lite: inverted bottlenecks with depthwise convolutions, made for phones and other CPUs.

Hugging Face transformers has no class for it: a saved directory has a ``config.json`` of ours (``model_type``
"efficientnet-lite") and the published weights' names.

References:
    Tan and Le. EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019.
    Sandler, Howard, Zhu, Zhmoginov, Chen. MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.models.config import number, read_fields, size
from jaxft.models.convolution import (
    Convolution,
    ConvolutionalConfig,
    NormSpec,
    kernel_entry,
    mean_features,
    norm_entries,
    relu6,
)
from jaxft.models.family import Family
from jaxft.models.heads import head
from jaxft.models.keys import Entry, linear
from jaxft.models.keys import head as head_entries
from jaxft.models.preprocessing import per_channel
from jaxft.types import Outputs

STEM, TOP, EXPANSION = 32, 1280, 6
STAGES = ((1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320))
"""Layers, kernel size, stride of the first layer and channels of each stage, before scaling."""
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
"""So that a pixel is (level − 127) / 128."""
FIELDS = {
    "width": number("width_coefficient", 1.0),
    "depth": number("depth_coefficient", 1.0),
    "head_dropout": number("dropout_rate", 0.2),
    "initializer_range": number("initializer_range", 0.02),
    "channels": size("num_channels", 3),
}


class Inverted(NamedTuple):
    """One layer: channels, kernel size, stride, and how many times wider it is inside."""

    inputs: int
    outputs: int
    size: int
    stride: int
    expansion: int

    @property
    def inner(self) -> int:
        """Channels of the depthwise convolution."""
        return self.inputs * self.expansion


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig(ConvolutionalConfig):
    """Of an EfficientNet-Lite.

    Attributes:
        width: channels of every stage are multiplied by it and rounded to a multiple of 8; stem and top are not.
        depth: layers of every stage but the first and last are multiplied by it and rounded up.
    """

    width: float
    depth: float

    def spec(self, dtype: Any) -> NormSpec:
        """Of its convolutions."""
        return NormSpec("same", 1e-3, 0.01, self.update_stats, dtype)


def layers(width: float, depth: float) -> list[Inverted]:
    """Every layer between stem and top.

    Example:
        >>> found = layers(1.0, 1.0)
        >>> len(found), found[1]
        (16, Inverted(inputs=16, outputs=24, size=3, stride=2, expansion=6))
    """
    found: list[Inverted] = []
    inputs = STEM
    for index, (repeats, kernel, stride, channels) in enumerate(STAGES):
        outer = index in (0, len(STAGES) - 1)
        outputs = _rounded(channels * width)
        for place in range(repeats if outer else math.ceil(repeats * depth)):
            found.append(Inverted(inputs, outputs, kernel, 1 if place else stride, EXPANSION if found else 1))
            inputs = outputs
    return found


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that loses at most a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class InvertedLayer(nn.Module):
    """project(relu6(depthwise(relu6(expand(x))))), added to x where the shapes agree."""

    layer: Inverted
    spec: NormSpec

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        layer, y = self.layer, x
        if layer.expansion > 1:
            y = relu6(Convolution(self.spec, layer.inner, name="expand")(y, train))
        deep = Convolution(self.spec, layer.inner, layer.size, layer.stride, True, name="depthwise")
        y = Convolution(self.spec, layer.outputs, name="project")(relu6(deep(y, train)), train)
        return x + y if layer.stride == 1 and layer.inputs == layer.outputs else y


class Stack(nn.Module):
    """The layers between stem and top; returns every state with the input first."""

    config: EfficientNetConfig
    spec: NormSpec
    remat: bool

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, ...]:
        kind = nn.remat(InvertedLayer, static_argnums=(2,)) if self.remat else InvertedLayer
        states = [x]
        for index, layer in enumerate(layers(self.config.width, self.config.depth)):
            states.append(kind(layer, self.spec, name=f"layer_{index}")(states[-1], train))
        return tuple(states)


class EfficientNet(nn.Module):
    """Stem, layers, top, mean and, unless the task is "features", a head; training has no stochastic depth."""

    config: EfficientNetConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Array], train: bool = False) -> Outputs:
        c, spec = self.config, self.config.spec(self.dtype)
        x = jnp.asarray(batch["pixels"], self.dtype)
        x = relu6(Convolution(spec, STEM, 3, 2, name="stem")(x, train))
        states = Stack(c, spec, self.remat, name="encoder")(x, train)
        features = mean_features(relu6(Convolution(spec, TOP, name="top")(states[-1], train)))
        logits = head(features, c.num_labels, c.head_dropout, train) if c.num_labels else None
        return Outputs(logits=logits, features=features, hidden_states=states)


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an EfficientNet-Lite."""
    values = read_fields(raw, FIELDS)
    found = layers(values["width"], values["depth"])
    scale = {"mean": per_channel(MEAN, values["channels"]), "std": per_channel(STD, values["channels"])}
    return values | scale | {"image_size": None, "hidden_size": TOP, "num_layers": len(found)}


def entries(config: EfficientNetConfig) -> list[Entry]:
    """Every array of an EfficientNet-Lite."""
    found = [kernel_entry("stem", "_conv_stem", (3, 3, config.channels, STEM)), *norm_entries("stem", "_bn0", STEM)]
    for index, layer in enumerate(layers(config.width, config.depth)):
        here, there, inner = f"encoder/layer_{index}", f"_blocks.{index}", layer.inner
        if layer.expansion > 1:
            found.append(kernel_entry(f"{here}/expand", f"{there}._expand_conv", (1, 1, layer.inputs, inner)))
            found += norm_entries(f"{here}/expand", f"{there}._bn0", inner)
        kernel = (layer.size, layer.size, 1, inner)
        found.append(kernel_entry(f"{here}/depthwise", f"{there}._depthwise_conv", kernel))
        found += norm_entries(f"{here}/depthwise", f"{there}._bn1", inner)
        found.append(kernel_entry(f"{here}/project", f"{there}._project_conv", (1, 1, inner, layer.outputs)))
        found += norm_entries(f"{here}/project", f"{there}._bn2", layer.outputs)
    found.append(kernel_entry("top", "_conv_head", (1, 1, layer.outputs, TOP)))
    found += norm_entries("top", "_bn1", TOP)
    return found + (head_entries(linear("head", "_fc", TOP, config.num_labels)) if config.num_labels else [])


EFFICIENTNET = Family(
    model_type="efficientnet-lite",
    config=EfficientNetConfig,
    fields=fields,
    entries=entries,
    module=EfficientNet,
    tasks=("classify", "features"),
    poolings=("mean",),
    prefix="",
    base="EfficientNetLite",
    classes={},
    class_pooling="mean",
    ignored=(r".*\.num_batches_tracked", r"_fc\..*"),
)
