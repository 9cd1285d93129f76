"""ResNet, of basic and bottleneck layers.

References:
    He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition, 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.errors import InputError
from jaxft.models.config import activation, check_choice, flag, number, read_fields, size, sizes
from jaxft.models.convolution import (
    Convolution,
    ConvolutionalConfig,
    NormSpec,
    kernel_entry,
    max_pool,
    mean_features,
    norm_entries,
)
from jaxft.models.family import Family
from jaxft.models.heads import head
from jaxft.models.keys import Entry, linear
from jaxft.models.keys import head as head_entries
from jaxft.models.layers import ACTIVATION_FUNCTIONS
from jaxft.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, per_channel
from jaxft.types import Outputs

KINDS = ("basic", "bottleneck")
FIELDS = {
    "channels": size("num_channels", 3),
    "stem": size("embedding_size", 64),
    "widths": sizes("hidden_sizes", (256, 512, 1024, 2048)),
    "depths": sizes("depths", (3, 4, 6, 3)),
    "activation": activation("hidden_act", "relu"),
    "initializer_range": number("initializer_range", 0.02),
}
FLAGS = {
    "first": flag("downsample_in_first_stage", False),
    "early": flag("downsample_in_bottleneck", False),
}


class Part(NamedTuple):
    """One convolution: channels, kernel size and stride."""

    inputs: int
    outputs: int
    size: int
    stride: int


class Residual(NamedTuple):
    """One layer: its convolutions, one after another, and the one on the way past them where shapes change."""

    parts: tuple[Part, ...]
    shortcut: Part | None


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ConvolutionalConfig):
    """Of a ResNet.

    Attributes:
        stem: channels of the first convolution.
        stages: the layers of each stage.
        activation: after every convolution, and after every sum.
    """

    stem: int
    stages: tuple[tuple[Residual, ...], ...]
    activation: str

    def spec(self, dtype: Any) -> NormSpec:
        """Of its convolutions."""
        return NormSpec("centred", 1e-5, 0.1, self.update_stats, dtype)


class ResidualLayer(nn.Module):
    """f(parts(x) + shortcut(x)), with f between the parts."""

    layer: Residual
    activation: str
    spec: NormSpec

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        function, y, last = ACTIVATION_FUNCTIONS[self.activation], x, len(self.layer.parts) - 1
        for index, part in enumerate(self.layer.parts):
            y = Convolution(self.spec, part.outputs, part.size, part.stride, name=f"convolution_{index}")(y, train)
            y = function(y) if index < last else y
        past = self.layer.shortcut
        if past is not None:
            x = Convolution(self.spec, past.outputs, past.size, past.stride, name="shortcut")(x, train)
        return function(y + x)


class Stage(nn.Module):
    """Layers at one resolution."""

    config: ResNetConfig
    layers: tuple[Residual, ...]
    spec: NormSpec
    remat: bool

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        kind = nn.remat(ResidualLayer, static_argnums=(2,)) if self.remat else ResidualLayer
        for index, layer in enumerate(self.layers):
            x = kind(layer, self.config.activation, self.spec, name=f"layer_{index}")(x, train)
        return x


class Stages(nn.Module):
    """Every stage; returns every state with the input first."""

    config: ResNetConfig
    spec: NormSpec
    remat: bool

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, ...]:
        states = [x]
        for index, layers in enumerate(self.config.stages):
            stage = Stage(self.config, layers, self.spec, self.remat, name=f"stage_{index}")
            states.append(stage(states[-1], train))
        return tuple(states)


class ResNet(nn.Module):
    """Stem, stages, mean and, unless the task is "features", a head; the hidden states are the stem's and stages'."""

    config: ResNetConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Array], train: bool = False) -> Outputs:
        c, spec = self.config, self.config.spec(self.dtype)
        x = Convolution(spec, c.stem, 7, 2, name="stem")(jnp.asarray(batch["pixels"], self.dtype), train)
        x = max_pool(ACTIVATION_FUNCTIONS[c.activation](x), 3, 2, "centred")
        states = Stages(c, spec, self.remat, name="encoder")(x, train)
        features = mean_features(states[-1])
        logits = head(features, c.num_labels, c.head_dropout, train) if c.num_labels else None
        return Outputs(logits=logits, features=features, hidden_states=states)


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ResNet."""
    values, flags = read_fields(raw, FIELDS), read_fields(raw, FLAGS)
    kind = check_choice("layer_type in config.json", raw.get("layer_type", "bottleneck"), KINDS)
    widths, depths = values.pop("widths"), values.pop("depths")
    if len(widths) != len(depths):
        raise InputError(f"hidden_sizes and depths in config.json differ in length: {list(widths)}, {list(depths)}")
    stages, inputs = [], values["stem"]
    for index, (outputs, depth) in enumerate(zip(widths, depths, strict=True)):
        stride = 2 if index or flags["first"] else 1
        first = _layer(kind, inputs, outputs, stride, flags["early"])
        stages.append((first, *(_layer(kind, outputs, outputs, 1, flags["early"]) for _ in range(depth - 1))))
        inputs = outputs
    return values | {
        "stages": tuple(stages),
        "image_size": None,
        "hidden_size": widths[-1],
        "num_layers": sum(depths),
        "mean": per_channel(IMAGENET_MEAN, values["channels"]),
        "std": per_channel(IMAGENET_STD, values["channels"]),
    }


def _layer(kind: str, inputs: int, outputs: int, stride: int, early: bool) -> Residual:
    shortcut = Part(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None
    if kind == "basic":
        return Residual((Part(inputs, outputs, 3, stride), Part(outputs, outputs, 3, 1)), shortcut)
    inner, strides = outputs // 4, (stride, 1) if early else (1, stride)
    wide = Part(inner, inner, 3, strides[1])
    return Residual((Part(inputs, inner, 1, strides[0]), wide, Part(inner, outputs, 1, 1)), shortcut)


def entries(config: ResNetConfig) -> list[Entry]:
    """Every array of a ResNet."""
    found = _part("stem", "embedder.embedder", Part(config.channels, config.stem, 7, 2))
    for stage, layers in enumerate(config.stages):
        for index, layer in enumerate(layers):
            here, there = f"encoder/stage_{stage}/layer_{index}", f"encoder.stages.{stage}.layers.{index}"
            for place, part in enumerate(layer.parts):
                found += _part(f"{here}/convolution_{place}", f"{there}.layer.{place}", part)
            if layer.shortcut is not None:
                found += _part(f"{here}/shortcut", f"{there}.shortcut", layer.shortcut)
    if not config.num_labels:
        return found
    return found + head_entries(linear("head", "classifier.1", config.hidden_size, config.num_labels))


def _part(path: str, name: str, part: Part) -> list[Entry]:
    kernel = kernel_entry(path, f"{name}.convolution", (part.size, part.size, part.inputs, part.outputs))
    return [kernel, *norm_entries(path, f"{name}.normalization", part.outputs)]


RESNET = Family(
    model_type="resnet",
    config=ResNetConfig,
    fields=fields,
    entries=entries,
    module=ResNet,
    tasks=("classify", "features"),
    poolings=("mean",),
    prefix="resnet.",
    base="ResNetModel",
    classes={"classify": "ResNetForImageClassification"},
    class_pooling="mean",
    ignored=(r"classifier\..*", r".*\.num_batches_tracked"),
)
