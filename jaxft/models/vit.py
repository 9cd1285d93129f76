"""ViT, and the body that DeiT and DINOv2 share with it: patches, a class token and pre-norm layers.

References:
    Dosovitskiy et al. An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale, 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.errors import InputError
from jaxft.models.bicubic import resize_matrix
from jaxft.models.block import Block
from jaxft.models.config import Field, ImageConfig, activation, check_heads, flag, number, read_fields, size
from jaxft.models.family import Family
from jaxft.models.heads import head
from jaxft.models.keys import Entry, linear, norm
from jaxft.models.keys import head as head_entries
from jaxft.models.layers import Affine, Dropout, LayerNorm, Table, cast, dense
from jaxft.models.preprocessing import HALF, per_channel
from jaxft.models.transformer import Layers, Stack
from jaxft.types import Outputs

FIELDS = {
    "hidden_size": size("hidden_size", 768),
    "num_layers": size("num_hidden_layers", 12),
    "num_heads": size("num_attention_heads", 12),
    "intermediate_size": size("intermediate_size", 3072),
    "activation": activation("hidden_act", "gelu"),
    "norm_eps": number("layer_norm_eps", 1e-12),
    "hidden_dropout": number("hidden_dropout_prob", 0.0),
    "attention_dropout": number("attention_probs_dropout_prob", 0.0),
    "initializer_range": number("initializer_range", 0.02),
    "patch_size": size("patch_size", 16),
    "channels": size("num_channels", 3),
    "qkv_bias": flag("qkv_bias", True),
}
NAMES = {
    "attention/norm": "layernorm_before",
    "attention/query": "attention.attention.query",
    "attention/key": "attention.attention.key",
    "attention/value": "attention.attention.value",
    "attention/output": "attention.output.dense",
    "feed_forward/norm": "layernorm_after",
    "feed_forward/up": "intermediate.dense",
    "feed_forward/down": "output.dense",
}


@dataclass(frozen=True, kw_only=True)
class ViTConfig(ImageConfig):
    """Of a transformer over patches.

    Attributes:
        grid: patches in a column and in a row of the images it was trained on, which have position embeddings.
        patch_size: pixels of a side.
        qkv_bias: whether queries, keys and values have biases.
        distilled: a second token, which learned from a teacher, stands behind the class token.
        masked: the files hold the embedding of a masked patch, which pretraining used.
        layer_scale: a learned factor for each output of a sub-layer.
        gated: feed-forward of SwiGLU.
    """

    grid: tuple[int, int]
    patch_size: int
    num_heads: int
    intermediate_size: int
    activation: str
    norm_eps: float
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    qkv_bias: bool = True
    distilled: bool = False
    masked: bool = False
    layer_scale: bool = False
    gated: bool = False

    @property
    def special(self) -> int:
        """Tokens before those of patches."""
        return 2 if self.distilled else 1

    @property
    def features_size(self) -> int:
        """Dimension of what the head reads."""
        return 2 * self.hidden_size if self.pooling == "cls_mean" else self.hidden_size

    def block(self, dtype: Any) -> Block:
        """One of its layers."""
        head_dim = self.hidden_size // self.num_heads
        return Block(
            hidden=self.hidden_size,
            heads=self.num_heads,
            head_dim=head_dim,
            intermediate=self.intermediate_size,
            kv_heads=self.num_heads,
            activation=self.activation,
            norm_eps=self.norm_eps,
            scale=head_dim**-0.5,
            pre_norm=True,
            gated=self.gated,
            qkv_bias=self.qkv_bias,
            layer_scale=self.layer_scale,
            attention_dropout=self.attention_dropout,
            hidden_dropout=self.hidden_dropout,
            dtype=dtype,
        )


class ViT(nn.Module):
    """Patches, layers, a norm and, unless the task is "features", a head; the hidden states are those before the norm.

    The head reads the first token ("cls"), the mean over the patches ("mean"), both in a row ("cls_mean"), or is two
    heads over the first two tokens, whose logits are averaged ("distilled").
    """

    config: ViTConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Array], train: bool = False) -> Outputs:
        c = self.config
        x = Embeddings(c, self.dtype, name="embeddings")(batch["pixels"], train)
        stack, normed = Normed((c.block(self.dtype),) * c.num_layers, self.remat, name="encoder")(x, train)
        outputs = Outputs(hidden_states=stack.states, attentions=stack.attentions, projections=stack.projections)
        normed = normed.astype(jnp.float32)
        first, mean = normed[:, 0], normed[:, c.special :].mean(axis=1)
        features = {"mean": mean, "cls_mean": jnp.concatenate([first, mean], axis=-1)}.get(c.pooling, first)
        if not c.num_labels:
            return outputs._replace(features=features)
        if c.pooling == "distilled":
            logits = TwoHeads(c.num_labels, name="head")(first, normed[:, 1])
        else:
            logits = head(features, c.num_labels, c.head_dropout, train)
        return outputs._replace(logits=logits, features=features)


class Embeddings(nn.Module):
    """Class token, distillation token if any, and patches x W + b, row by row; plus positions."""

    config: ViTConfig
    dtype: Any

    @nn.compact
    def __call__(self, pixels: Array, train: bool) -> Array:
        """``[batch, height, width, channels]`` -> ``[batch, tokens, hidden]``."""
        c, side = self.config, self.config.patch_size
        rows, height, width, channels = pixels.shape
        if height % side or width % side:
            raise InputError(
                f"the model reads patches of {side} by {side} pixels: height and width must be multiples of {side}; "
                f"got {height} by {width}"
            )
        grid = (height // side, width // side)
        patches = jnp.asarray(pixels, self.dtype).reshape(rows, grid[0], side, grid[1], side, channels)
        kernel, bias = Patch(side, channels, c.hidden_size, self.dtype, name="patch")()
        flat = patches.transpose(0, 1, 3, 2, 4, 5).reshape(-1, side * side * channels)
        x = (flat @ kernel + bias).reshape(rows, grid[0] * grid[1], c.hidden_size)
        tokens = [self._token("class")] + ([self._token("distillation")] if c.distilled else [])
        if c.masked:
            self._token("mask")
        x = jnp.concatenate([*(jnp.broadcast_to(token, (rows, *token.shape)) for token in tokens), x], axis=1)
        return Dropout(c.hidden_dropout)(x + self._positions(grid), train)

    def _token(self, name: str) -> Array:
        return Table(1, self.config.hidden_size, self.dtype, name=name)(jnp.zeros(1, jnp.int32))

    def _positions(self, grid: tuple[int, int]) -> Array:
        c = self.config
        count = c.special + c.grid[0] * c.grid[1]
        table = Table(count, c.hidden_size, self.dtype, name="position")
        if grid == c.grid:
            return table(jnp.arange(count))
        return jnp.asarray(resize_matrix(c.grid, grid, c.special), self.dtype) @ cast(table.embedding, self.dtype)


class Patch(nn.Module):
    """The kernel [height, width, channels, outputs] and bias of patches as those of one dense layer."""

    side: int
    channels: int
    outputs: int
    dtype: Any

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        shape = (self.side, self.side, self.channels, self.outputs)
        kernel = cast(self.param("kernel", nn.initializers.zeros, shape), self.dtype)
        bias = cast(self.param("bias", nn.initializers.zeros, (self.outputs,)), self.dtype)
        return kernel.reshape(-1, self.outputs), bias


class Normed(nn.Module):
    """Layers, and a norm of what comes out of the last."""

    blocks: tuple[Block, ...]
    remat: bool

    def setup(self) -> None:
        self.layers = Layers(self.blocks, self.remat)
        nn.share_scope(self, self.layers)
        self.norm = LayerNorm(self.blocks[0].norm_eps)

    def __call__(self, x: Array, train: bool) -> tuple[Stack, Array]:
        stack = self.layers(x, [jnp.ones((1, 1, 1, x.shape[1]), bool)], train)
        return stack, self.norm(stack.states[-1])


class TwoHeads(nn.Module):
    """(a W + b + c V + d) / 2: the class token and the distillation token, each with its head."""

    outputs: int

    @nn.compact
    def __call__(self, first: Array, second: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.zeros, (first.shape[-1], self.outputs))
        bias = self.param("bias", nn.initializers.zeros, (self.outputs,))
        other = dense(second, Affine(second.shape[-1], self.outputs, name="distillation"))
        return (first @ kernel + bias + other) / 2


def vit_fields(
    raw: Mapping[str, Any], table: Mapping[str, Field], mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """The fields that all three families have."""
    values = read_fields(raw, table)
    check_heads(values["hidden_size"], values["num_heads"])
    height, width = image_shape(raw)
    side = values["patch_size"]
    if height < side or width < side:
        raise InputError(f"image_size in config.json, {height} by {width}, is less than its patch_size {side}")
    return values | {
        "image_size": (height, width),
        "grid": (height // side, width // side),
        "mean": per_channel(mean, values["channels"]),
        "std": per_channel(std, values["channels"]),
    }


def image_shape(raw: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width, which config.json holds as one number or two."""
    found = raw.get("image_size", 224)
    pair = [found, found] if type(found) is int else found
    if not isinstance(pair, list) or len(pair) != 2 or any(type(one) is not int or one < 1 for one in pair):
        raise InputError(f"image_size in config.json must be one whole number from 1 up, or two; got {found!r}")
    return pair[0], pair[1]


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ViT."""
    return vit_fields(raw, FIELDS, HALF, HALF)


def vit_entries(config: ViTConfig, names: Mapping[str, str]) -> list[Entry]:
    """The arrays of embeddings, layers and the last norm.

    Args:
        config: gives their shapes.
        names: what the norms and dense layers of a layer are called in the file, by their path here.
    """
    c, hidden = config, config.hidden_size
    tokens = [("class", "cls_token"), *([("distillation", "distillation_token")] if c.distilled else [])]
    found = [Entry(f"embeddings/{here}/embedding", f"embeddings.{name}", (1, hidden), ones=1) for here, name in tokens]
    if c.masked:
        found.append(Entry("embeddings/mask/embedding", "embeddings.mask_token", (1, hidden)))
    count = c.special + c.grid[0] * c.grid[1]
    found.append(Entry("embeddings/position/embedding", "embeddings.position_embeddings", (count, hidden), ones=1))
    patch, shape = "embeddings.patch_embeddings.projection", (c.patch_size, c.patch_size, c.channels, hidden)
    found.append(Entry("embeddings/patch/kernel", f"{patch}.weight", shape, (2, 3, 1, 0)))
    found.append(Entry("embeddings/patch/bias", f"{patch}.bias", (hidden,)))
    sizes = {"feed_forward/up": (hidden, c.intermediate_size), "feed_forward/down": (c.intermediate_size, hidden)}
    for index in range(c.num_layers):
        for here, there in names.items():
            path, name = f"encoder/layer_{index}/{here}", f"encoder.layer.{index}.{there}"
            if here.endswith("/norm"):
                found += norm(path, name, hidden)
            else:
                biased = c.qkv_bias or here.split("/")[1] not in ("query", "key", "value")
                found += linear(path, name, *sizes.get(here, (hidden, hidden)), bias=biased)
    return found + norm("encoder/norm", "layernorm", hidden)


def classifier(config: ViTConfig, path: str = "head", name: str = "classifier") -> list[Entry]:
    """A head over the features, where the task has one."""
    return head_entries(linear(path, name, config.features_size, config.num_labels)) if config.num_labels else []


def entries(config: ViTConfig) -> list[Entry]:
    """Every array of a ViT."""
    return vit_entries(config, NAMES) + classifier(config)


VIT = Family(
    model_type="vit",
    config=ViTConfig,
    fields=fields,
    entries=entries,
    module=ViT,
    tasks=("classify", "features"),
    poolings=("cls", "mean"),
    prefix="vit.",
    base="ViTModel",
    classes={"classify": "ViTForImageClassification"},
    ignored=(r"(classifier|pooler|decoder)\..*", r"embeddings\.mask_token"),
)
