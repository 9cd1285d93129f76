"""The decoder that GPT, Llama and their relatives share: tokens in, the next token or a row's label out.

References:
    Vaswani et al. Attention Is All You Need, 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.models.block import Block, Cached, normalised
from jaxft.models.cache import Cache
from jaxft.models.config import TextConfig
from jaxft.models.heads import head, pool
from jaxft.models.inputs import NOISE, noised
from jaxft.models.layers import Affine, Dropout, Table, dense
from jaxft.models.rotary import RotarySpec, rotary
from jaxft.models.slots import behind_prompt, find, projections_without_prompt, slots_of, without_prompt
from jaxft.models.transformer import Layers, Stack
from jaxft.models.visible import Sight, attention_mask, causal, within
from jaxft.types import Outputs

TASKS = ("lm", "classify", "regress", "features", "tag")
POOLINGS = ("last", "mean")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(TextConfig):
    """Of a decoder.

    Attributes:
        kv_heads: heads of keys and values.
        head_dim: of queries, keys and values.
        intermediate_size: dimension inside the feed-forward.
        activation: of the feed-forward.
        gated: whether the feed-forward has a gate.
        norm: "layer" or "rms".
        norm_eps: added to the variance.
        pre_norm: norms stand before the sub-layers, and one after the last layer.
        rope: angles of rotary positions; None has a table of positions.
        scales: of the scores, one a layer.
        windows: tokens that one sees at most, one a layer; None is all.
        qkv_bias: whether queries, keys and values have biases; so for the others.
        query_norm: norm of each head's queries and keys.
        tied: the table of words is also what gives the logits of the next token.
        embedding_dropout: of the embeddings.
        hidden_dropout: of each sub-layer's output.
        attention_dropout: of the probabilities.
        tag_dropout: of what the head reads that tags tokens.
    """

    kv_heads: int
    head_dim: int
    intermediate_size: int
    activation: str
    norm_eps: float
    scales: tuple[float, ...]
    windows: tuple[int | None, ...]
    tied: bool
    gated: bool = False
    norm: str = "layer"
    pre_norm: bool = True
    rope: RotarySpec | None = None
    qkv_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    query_norm: bool = False
    embedding_dropout: float = 0.0
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    tag_dropout: float = 0.1

    @property
    def cache_sizes(self) -> tuple[int, int, int]:
        """Layers, key/value heads and head dimension."""
        return self.num_layers, self.kv_heads, self.head_dim

    def blocks(self, dtype: Any) -> tuple[Block, ...]:
        """Its layers."""
        block = Block(
            hidden=self.hidden_size,
            heads=self.num_heads,
            head_dim=self.head_dim,
            intermediate=self.intermediate_size,
            kv_heads=self.kv_heads,
            activation=self.activation,
            norm_eps=self.norm_eps,
            scale=1.0,
            norm=self.norm,
            pre_norm=self.pre_norm,
            gated=self.gated,
            qkv_bias=self.qkv_bias,
            output_bias=self.output_bias,
            mlp_bias=self.mlp_bias,
            query_norm=self.query_norm,
            attention_dropout=self.attention_dropout,
            hidden_dropout=self.hidden_dropout,
            dtype=dtype,
        )
        pairs = zip(self.scales, self.windows, strict=True)
        return tuple(block._replace(scale=scale, window=window) for scale, window in pairs)


class Decoder(nn.Module):
    """Embeddings, causal layers and what the task asks for.

    Beside the logits of a row's labels it gives ``token_logits`` where the table of words is tied to them: an auxiliary
    objective may ask for the next token.
    """

    config: DecoderConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Any], train: bool = False) -> Outputs:
        c = self.config
        cache: Cache | None = batch.get("cache")
        slots, prompt = slots_of(self), find(self, "embeddings/prompt")
        if cache is not None and cache.prompt is not None:
            slots, prompt = slots._replace(prompt=0), None  # the cache holds it
        sight = causal(
            attention_mask(batch), batch.get("segment_ids"), cache, prompt=slots.prompt, prefix=slots.decoder
        )
        embeddings = Embeddings(c, self.dtype, name="embeddings")
        x = embeddings(batch["input_ids"], sight.positions, train, prompt, batch.get(NOISE))
        found = Body(c, self.dtype, self.remat, name="decoder")(
            x,
            sight,
            train,
            caches=None if cache is None else [Cached(layer, cache.place) for layer in cache.layers],
        )
        states = without_prompt(found.states, slots.prompt)
        last = states[-1]
        outputs = Outputs(
            hidden_states=states,
            attentions=found.attentions,
            projections=projections_without_prompt(found.projections, slots.prompt),
        )
        if cache is not None:
            held = cache.prompt if prompt is None else jnp.int32(slots.prompt)
            outputs = outputs._replace(cache=Cache(found.layers, sight.visible, cache.place + x.shape[1], held))
        if c.task == "lm":
            return outputs._replace(logits=embeddings.logits(last) if c.tied else self._lm_head(last))
        if c.task == "tag":
            return outputs._replace(logits=head(last, c.num_labels, c.tag_dropout, train))
        outputs = outputs._replace(features=pool(c.pooling, last, attention_mask(batch)))
        if not c.num_labels:
            return outputs
        logits = head(outputs.features, c.num_labels, c.head_dropout, train, use_bias=False)
        return outputs._replace(logits=logits, token_logits=embeddings.logits(last) if c.tied else None)

    def _lm_head(self, x: Array) -> Array:
        c = self.config
        affine = Affine(c.hidden_size, c.vocab_size, self.dtype, use_bias=False, name="lm_head")
        return dense(x, affine).astype(jnp.float32)


class Body(nn.Module):
    """The layers, and the norm after the last of them where the norms come first."""

    config: DecoderConfig
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, x: Array, sight: Sight, train: bool, caches: Sequence[Cached] | None) -> Stack:
        c = self.config
        blocks = c.blocks(self.dtype)
        turn = None if c.rope is None else rotary(c.rope, c.head_dim, sight.positions)
        layers = Layers(blocks, self.remat)
        nn.share_scope(self, layers)
        found = layers(x, _masks(sight, blocks), train, turn=turn, caches=caches)
        if not c.pre_norm:
            return found
        return found._replace(states=(*found.states[:-1], normalised(blocks[-1], found.states[-1])))


class Embeddings(nn.Module):
    """Dropout of words, plus positions where there is a table of them."""

    config: DecoderConfig
    dtype: Any

    def setup(self) -> None:
        c = self.config
        self.word = Table(c.vocab_size, c.hidden_size, self.dtype)
        if c.rope is None:
            self.position = Table(c.max_positions, c.hidden_size, self.dtype)
        self.dropout = Dropout(c.embedding_dropout)

    def __call__(
        self,
        ids: Array,
        positions: Array,
        train: bool,
        prompt: Array | None = None,
        noise: Array | None = None,
    ) -> Array:
        """``ids`` and ``positions`` [batch, length] -> [batch, length, hidden]; positions are also a prompt's."""
        x = behind_prompt(prompt, noised(self.word(ids), noise))
        if self.config.rope is None:
            x = x + self.position(positions)
        return self.dropout(x, train)

    def logits(self, x: Array) -> Array:
        """Of the next token ``[batch, length, vocabulary]``, in float32."""
        return self.word.attend(x).astype(jnp.float32)


def _masks(sight: Sight, blocks: tuple[Block, ...]) -> list[Array]:
    """One mask for each layer, or one for all."""
    windows = [block.window for block in blocks]
    distinct = {window: within(sight, window) for window in dict.fromkeys(windows)}
    return list(distinct.values()) if len(distinct) == 1 else [distinct[window] for window in windows]
