"""The encoder that BERT and its descendants share: embeddings, layers, and the heads that read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.models.block import Block
from jaxft.models.config import TextConfig
from jaxft.models.family import Family
from jaxft.models.heads import head, pool, pooler
from jaxft.models.inputs import NOISE, noised
from jaxft.models.keys import Entry, linear, norm, table
from jaxft.models.keys import head as head_only
from jaxft.models.layers import Affine, Dropout, LayerNorm, Table, dense
from jaxft.models.slots import (
    behind_prompt,
    extended,
    find,
    projections_without_prompt,
    real_tokens,
    slots_of,
    without_prompt,
)
from jaxft.models.transformer import Layers
from jaxft.models.visible import attention_mask
from jaxft.types import Outputs

TASKS = ("classify", "regress", "features", "tag", "spans")
POOLINGS = ("mean", "cls", "first")
OTHER_HEADS = (
    r"(cls|pooler|classifier|pre_classifier|qa_outputs|lm_head|vocab_(transform|layer_norm|projector)|"
    r"discriminator_predictions|generator_(predictions|lm_head))\..*",
    r"embeddings\.position_ids",
)
"""Names of the arrays that files of encoders hold beside those of a model: heads of other classes, and a constant."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(TextConfig):
    """Of an encoder.

    Attributes:
        intermediate_size: dimension inside the feed-forward.
        embedding_size: of the tables; projected to hidden_size when it differs.
        activation: of the feed-forward.
        norm_eps: added to the variance.
        hidden_dropout: of each sub-layer's output and of the embeddings.
        attention_output_dropout: of the output of attention.
        attention_dropout: of the probabilities.
        pooler_dropout: of what the pooler reads.
        tag_dropout: of what the head reads that tags tokens.
        spans_dropout: of what the head reads that finds answers.
        pooler_activation: of the dense layer on the first token, with ``pooling="cls"``.
        head_pooler: that layer is part of the head, so that features without one are the first token's hidden state.
        padding_position: when given, tokens other than the padding token (which has this id) are counted from it.
    """

    intermediate_size: int
    embedding_size: int
    activation: str
    norm_eps: float
    hidden_dropout: float
    attention_output_dropout: float
    attention_dropout: float
    pooler_dropout: float = 0.0
    tag_dropout: float
    spans_dropout: float = 0.0
    pooler_activation: str = "tanh"
    head_pooler: bool = False
    padding_position: int | None = None

    @property
    def position_rows(self) -> int:
        """Rows of the table of positions."""
        return self.max_positions + (0 if self.padding_position is None else self.padding_position + 1)

    @property
    def has_pooler(self) -> bool:
        """Whether a dense layer stands between the first token and what reads it."""
        return self.pooling == "cls" and (self.num_labels > 0 or not self.head_pooler)

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
            attention_dropout=self.attention_dropout,
            hidden_dropout=self.hidden_dropout,
            attention_output_dropout=self.attention_output_dropout,
            dtype=dtype,
        )


class Encoder(nn.Module):
    """Embeddings, layers and, unless the task is "features", a head."""

    config: EncoderConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Array], train: bool = False) -> Outputs:
        c = self.config
        slots = slots_of(self)
        seen = extended(attention_mask(batch), slots.prompt)
        embeddings = Embeddings(c, self.dtype, name="embeddings")
        x = embeddings(
            batch["input_ids"],
            batch.get("token_type_ids"),
            train,
            start=slots.encoder,
            prompt=find(self, "embeddings/prompt"),
            noise=batch.get(NOISE),
        )
        layers = Layers((c.block(self.dtype),) * c.num_layers, self.remat, name="encoder")
        found = layers(x, [seen[:, None, None, :]], train)
        states = without_prompt(found.states, slots.prompt)
        outputs = Outputs(
            hidden_states=states,
            attentions=found.attentions,
            projections=projections_without_prompt(found.projections, slots.prompt),
        )
        if c.pooling == "tokens":
            rate = c.spans_dropout if c.task == "spans" else c.tag_dropout
            return outputs._replace(logits=head(states[-1], c.num_labels, rate, train))
        features = pool(c.pooling, found.states[-1], real_tokens(seen, slots.prompt))
        if c.has_pooler:
            features = pooler(Dropout(c.pooler_dropout)(features, train), c.pooler_activation, self.dtype)
        logits = head(features, c.num_labels, c.head_dropout, train) if c.num_labels else None
        return outputs._replace(logits=logits, features=features)


class Embeddings(nn.Module):
    """LayerNorm(word + position + token type), dropout, and a projection where the tables are narrower."""

    config: EncoderConfig
    dtype: Any

    def setup(self) -> None:
        c = self.config
        self.word = Table(c.vocab_size, c.embedding_size, self.dtype)
        if c.token_types:
            self.token_type = Table(c.token_types, c.embedding_size, self.dtype)
        self.position = Table(c.position_rows, c.embedding_size, self.dtype)
        self.norm = LayerNorm(c.norm_eps)
        self.dropout = Dropout(c.hidden_dropout)
        if c.embedding_size != c.hidden_size:
            self.projection = Affine(c.embedding_size, c.hidden_size, self.dtype)

    def __call__(
        self,
        ids: Array,
        token_types: Array | None,
        train: bool,
        start: Array | int = 0,
        prompt: Array | None = None,
        noise: Array | None = None,
    ) -> Array:
        """``ids`` [batch, length] -> [batch, length, hidden], behind a prompt [places, embedding] if there is one.

        ``start`` is the position of the first.
        """
        c = self.config
        x = behind_prompt(prompt, noised(self.word(ids), noise))
        before = x.shape[1] - ids.shape[1]
        if c.token_types:
            # Token types when nobody names them, and positions, are the same for every row: looked up once.
            # Where there is one kind of token, a tokenizer for pairs may name others all the same.
            kinds = jnp.zeros((1, 1), jnp.int32) if token_types is None or c.token_types == 1 else token_types
            if before and kinds.shape[1] > 1:
                kinds = jnp.pad(kinds, ((0, 0), (before, 0)))
            x = x + self.token_type(kinds)
        x = x + self.position(self._positions(ids, start, before))
        x = self.dropout(self.norm(x), train)
        return x if c.embedding_size == c.hidden_size else dense(x, self.projection)

    def _positions(self, ids: Array, start: Array | int, before: int) -> Array:
        padding = self.config.padding_position
        if padding is None:
            return start + jnp.arange(before + ids.shape[1])[None]
        real = extended(ids != padding, before)
        return jnp.where(real, start + jnp.cumsum(real, axis=1) + padding, padding)


def encoder_entries(config: EncoderConfig, names: Mapping[str, str]) -> list[Entry]:
    """The arrays of embeddings and layers.

    Args:
        config: gives their shapes.
        names: what each module is called in the file: ``word``, ``position``, ``token_type`` (if any),
            ``embeddings_norm`` and ``projection`` (if any), ``layer`` with a place for the index, and inside it
            ``query``, ``key``, ``value``, ``output``, ``attention_norm``, ``up``, ``down`` and ``feed_forward_norm``.
    """
    c, hidden = config, config.hidden_size
    found = table("embeddings/word", names["word"], c.vocab_size, c.embedding_size)
    found += table("embeddings/position", names["position"], c.position_rows, c.embedding_size)
    if "token_type" in names:
        found += table("embeddings/token_type", names["token_type"], c.token_types, c.embedding_size)
    found += norm("embeddings/norm", names["embeddings_norm"], c.embedding_size)
    if c.embedding_size != hidden:
        found += linear("embeddings/projection", names["projection"], c.embedding_size, hidden)
    for index in range(c.num_layers):
        here, there = f"encoder/layer_{index}", names["layer"].format(index)
        for name in ("query", "key", "value", "output"):
            found += linear(f"{here}/attention/{name}", f"{there}.{names[name]}", hidden, hidden)
        found += norm(f"{here}/attention/norm", f"{there}.{names['attention_norm']}", hidden)
        found += linear(f"{here}/feed_forward/up", f"{there}.{names['up']}", hidden, c.intermediate_size)
        found += linear(f"{here}/feed_forward/down", f"{there}.{names['down']}", c.intermediate_size, hidden)
        found += norm(f"{here}/feed_forward/norm", f"{there}.{names['feed_forward_norm']}", hidden)
    return found


def head_entries(config: EncoderConfig, pooler: str, output: str) -> list[Entry]:
    """The arrays of a head.

    Args:
        config: gives its task and sizes.
        pooler: what its pooler is called in the file, where it has one.
        output: so for the layer after a whole row's features, which a task over tokens names on its own.
    """
    c, found = config, []
    if c.has_pooler and c.head_pooler:
        found += head_only(linear("pooler", pooler, c.hidden_size, c.hidden_size))
    if c.num_labels:
        name = {"tag": "classifier", "spans": "qa_outputs"}.get(c.task, output)
        found += head_only(linear("head", name, c.hidden_size, c.num_labels))
    return found


def encoder_family(
    model_type: str,
    name: str,
    prefix: str,
    fields: Callable[[Mapping[str, Any]], dict[str, Any]],
    entries: Callable[[EncoderConfig], list[Entry]],
) -> Family:
    """An encoder's architecture.

    Args:
        model_type: in ``config.json``.
        name: what its Hugging Face classes begin with.
        prefix: what the names of a file with a head begin with.
        fields: its own fields.
        entries: its arrays.
    """
    return Family(
        model_type=model_type,
        config=EncoderConfig,
        fields=fields,
        entries=entries,
        module=Encoder,
        tasks=TASKS,
        poolings=POOLINGS,
        prefix=prefix,
        base=f"{name}Model",
        classes={
            "classify": f"{name}ForSequenceClassification",
            "regress": f"{name}ForSequenceClassification",
            "tag": f"{name}ForTokenClassification",
            "spans": f"{name}ForQuestionAnswering",
        },
        ignored=OTHER_HEADS,
    )
