"""T5, T5 v1.1 and Flan-T5: relative positions, and no biases anywhere.

Params are at ``embeddings/word/embedding`` (which both stacks read), ``{encoder,decoder}/layer_0/attention/…``,
``decoder/layer_0/cross_attention/…``, ``{encoder,decoder}/layer_0/feed_forward/…``, the tables of relative positions at
``{encoder,decoder}/relative_bias/embedding``, final norms at ``{encoder,decoder}/norm/scale``, and ``lm_head/kernel``
where the outputs are not tied to the word embeddings.

References:
    Raffel et al. Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer, 2020.
    Shazeer. GLU Variants Improve Transformer, 2020 (the gated feed-forward of v1.1).
    Chung et al. Scaling Instruction-Finetuned Language Models, 2022 (Flan-T5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.errors import InputError
from jaxft.models import keys
from jaxft.models.block import Block, Cached
from jaxft.models.config import UNLIMITED, check_choice, flag, number, read_fields, size, stop_token, token
from jaxft.models.family import Family
from jaxft.models.heads import head, pool
from jaxft.models.inputs import NOISE, noised
from jaxft.models.keys import Entry, linear, scale, table
from jaxft.models.layers import ACTIVATION_FUNCTIONS, Affine, Dropout, RMSNorm, Table, dense
from jaxft.models.relative import buckets
from jaxft.models.seq2seq import Seq2SeqConfig, next_cache, seen_by_layers, source_visible, target_sight
from jaxft.models.slots import behind_prompt, find, prefix_length, real_tokens, slots_of, without_prompt
from jaxft.models.transformer import Layers, Memory, Stack
from jaxft.types import Outputs

FIELDS = {
    "hidden_size": size("d_model"),
    "head_dim": size("d_kv"),
    "intermediate_size": size("d_ff"),
    "num_layers": size("num_layers"),
    "num_decoder_layers": size("num_decoder_layers", None),
    "num_heads": size("num_heads"),
    "vocab_size": size("vocab_size"),
    "buckets": size("relative_attention_num_buckets", 32),
    "max_distance": size("relative_attention_max_distance", 128),
    "norm_eps": number("layer_norm_epsilon", 1e-6),
    "dropout": number("dropout_rate", 0.1),
    "head_dropout": number("classifier_dropout", 0.0),
    "pad_token": token("pad_token_id", 0),
    "eos_token": stop_token("eos_token_id"),
    "decoder_start_token": token("decoder_start_token_id", None),
    "scaled_outputs": flag("scale_decoder_outputs", True),
}
COPIES = (
    r"(encoder|decoder)\.embed_tokens\.weight",
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
    r"(classifier|classification_head|qa_outputs|lm_head)\..*",
)
"""Copies of the word embeddings, a table of the first releases that nothing reads, and heads of other tasks."""


@dataclass(frozen=True, kw_only=True)
class T5Config(Seq2SeqConfig):
    """Of a T5.

    Attributes:
        head_dim: of queries, keys and values.
        intermediate_size: dimension inside the feed-forward.
        num_decoder_layers: may differ from those of the encoder.
        activation: of the feed-forward.
        gated: whether the feed-forward is f(x W_gate) * (x W_up).
        buckets: kinds of distance that the relative biases tell apart.
        max_distance: tokens farther apart than this share a bucket.
        norm_eps: added to the mean square.
        dropout: of embeddings, attention, feed-forward, and every output.
        scaled_outputs: logits = E h / sqrt(d) with the word embeddings E, else W h with a kernel of their own, which
            starts as E where the file holds none and says that it is tied.
    """

    head_dim: int
    intermediate_size: int
    num_decoder_layers: int
    activation: str
    gated: bool
    buckets: int
    max_distance: int
    norm_eps: float
    dropout: float
    scaled_outputs: bool

    @property
    def cache_sizes(self) -> tuple[int, int, int] | None:
        """Layers, heads and head dimension of the decoder; None when only the encoder is there."""
        return (self.num_decoder_layers, self.num_heads, self.head_dim) if self.task == "seq2seq" else None

    def block(self, dtype: Any) -> Block:
        """One of its layers."""
        return Block(
            hidden=self.hidden_size,
            heads=self.num_heads,
            head_dim=self.head_dim,
            intermediate=self.intermediate_size,
            kv_heads=self.num_heads,
            activation=self.activation,
            norm_eps=self.norm_eps,
            scale=1.0,
            norm="rms",
            pre_norm=True,
            gated=self.gated,
            qkv_bias=False,
            output_bias=False,
            mlp_bias=False,
            attention_dropout=self.dropout,
            hidden_dropout=self.dropout,
            inner_dropout=self.dropout,
            dtype=dtype,
        )


class T5(nn.Module):
    """An encoder, and its decoder for ``task="seq2seq"`` or a head over the mean of its states for other tasks."""

    config: T5Config
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Any], train: bool = False) -> Outputs:
        c = self.config
        words = Words(c.vocab_size, c.hidden_size, self.dtype, name="embeddings")
        places, cache = slots_of(self).prompt, batch.get("cache")
        seen = source_visible(batch, places)
        mask = seen[:, None, None, :]
        if c.task == "seq2seq" and cache is not None and cache.encoded:
            return self._decode(words, batch, None, mask, train)
        encoder = T5Stack(c, c.num_layers, True, self.dtype, self.remat, name="encoder")
        ids, noise = batch["input_ids"], batch.get(NOISE)
        source = encoder(words(ids, find(self, "embeddings/prompt"), noise), mask, train)
        if c.task == "seq2seq":
            return self._decode(words, batch, source, mask, train)
        features = pool(c.pooling, source.states[-1], real_tokens(seen, places))
        logits = head(features, c.num_labels, c.head_dropout, train) if c.num_labels else None
        return Outputs(logits, features, without_prompt(source.states, places), source.attentions)

    def _decode(
        self, words: Words, batch: Mapping[str, Any], source: Stack | None, mask: Array, train: bool
    ) -> Outputs:
        c, cache, sight = self.config, batch.get("cache"), target_sight(batch)
        memory = Memory(None if source is None else source.states[-1], mask)
        decoder = T5Stack(c, c.num_decoder_layers, False, self.dtype, self.remat, name="decoder")
        x = words(batch["decoder_input_ids"])
        found = decoder(x, sight.mask, train, seen_by_layers(cache), memory)
        last = found.states[-1]
        if c.scaled_outputs:
            logits = words.word.attend(last * c.hidden_size**-0.5)
        else:
            logits = dense(last, Affine(c.hidden_size, c.vocab_size, self.dtype, use_bias=False, name="lm_head"))
        return Outputs(
            logits=logits.astype(jnp.float32),
            hidden_states=found.states,
            attentions=found.attentions,
            projections=found.projections,
            encoder_hidden_states=source and without_prompt(source.states, slots_of(self).prompt),
            cache=next_cache(cache, found.layers, sight),
        )


class Words(nn.Module):
    """The table that encoder and decoder read, and that tied outputs are compared with."""

    vocab_size: int
    size: int
    dtype: Any

    def setup(self) -> None:
        self.word = Table(self.vocab_size, self.size, self.dtype)

    def __call__(self, ids: Array, prompt: Array | None = None, noise: Array | None = None) -> Array:
        return behind_prompt(prompt, noised(self.word(ids), noise))


class T5Stack(nn.Module):
    """Layers between dropout and a norm, whose self-attentions share one table of relative biases."""

    config: T5Config
    num_layers: int
    bidirectional: bool
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array,
        train: bool,
        caches: Sequence[Cached] | None = None,
        memory: Memory | None = None,
    ) -> Stack:
        c = self.config
        # A prefix takes the first places, so that distances to it have biases too.
        start, prefix = caches[0].place if caches else 0, prefix_length(self.variables.get("params", {}))
        queries, places = prefix + start + jnp.arange(x.shape[1]), jnp.arange(prefix + mask.shape[-1])
        kinds = buckets(places[None, :] - queries[:, None], c.buckets, c.max_distance, self.bidirectional)
        bias = Table(c.buckets, c.num_heads, name="relative_bias")(kinds).transpose(2, 0, 1)[None]
        layers = Layers((c.block(self.dtype),) * self.num_layers, self.remat)
        nn.share_scope(self, layers)
        x = Dropout(c.dropout)(x, train)
        found = layers(x, [mask], train, bias=bias, caches=caches, memory=memory)
        last = Dropout(c.dropout)(RMSNorm(c.norm_eps, name="norm")(found.states[-1]), train)
        return found._replace(states=(*found.states[:-1], last))


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a T5."""
    # Older files say by tie_word_embeddings what newer ones say by scale_decoder_outputs: only the first T5 does both.
    told = {"eos_token_id": 1, "scale_decoder_outputs": raw.get("tie_word_embeddings") is not False}
    values = read_fields(told | dict(raw), FIELDS)
    *gate, activation = str(raw.get("feed_forward_proj", "relu")).split("-")
    if gate not in ([], ["gated"]):
        raise InputError(
            "feed_forward_proj in config.json must be an activation, alone or after gated-; "
            f"got {raw['feed_forward_proj']!r}"
        )
    check_choice("feed_forward_proj", activation, tuple(ACTIVATION_FUNCTIONS))
    _check_buckets(values["buckets"], values["max_distance"])
    start = values["decoder_start_token"]
    return values | {
        "max_positions": UNLIMITED,
        "num_decoder_layers": values["num_decoder_layers"] or values["num_layers"],
        "decoder_start_token": values["pad_token"] if start is None else start,
        "gated": bool(gate),
        "activation": "gelu_new" if gate and activation == "gelu" else activation,
    }


def _check_buckets(count: int, max_distance: int) -> None:
    if count < 4 or count % 2 or max_distance <= count // 2:
        raise InputError(
            "config.json needs an even relative_attention_num_buckets from 4 up and a relative_attention_max_distance "
            f"above half of it; got {count} and {max_distance}"
        )


def entries(config: T5Config) -> list[Entry]:
    """Every array of a T5."""
    c = config
    found = table("embeddings/word", "shared", c.vocab_size, c.hidden_size)
    found += _stack_entries(c, "encoder", c.num_layers)
    if c.task == "seq2seq":
        found += _stack_entries(c, "decoder", c.num_decoder_layers)
        if not c.scaled_outputs:
            found += _output_entries(c)
    if c.num_labels:
        found += keys.head(linear("head", "classifier", c.hidden_size, c.num_labels))
    return found


def _output_entries(c: T5Config) -> list[Entry]:
    """The kernel of the outputs; where a file ties it to the words, it may hold it only as these."""
    kernel = linear("lm_head", "lm_head", c.hidden_size, c.vocab_size, bias=False)
    tied = c.raw.get("tie_word_embeddings") is not False
    return [entry._replace(otherwise="shared.weight") for entry in kernel] if tied else kernel


def _stack_entries(c: T5Config, stack: str, layers: int) -> list[Entry]:
    first = f"{stack}.block.0.layer.0.SelfAttention"
    found = table(f"{stack}/relative_bias", f"{first}.relative_attention_bias", c.buckets, c.num_heads)
    attentions = {"attention": "SelfAttention"} | ({"cross_attention": "EncDecAttention"} if stack == "decoder" else {})
    for index in range(layers):
        here, there = f"{stack}/layer_{index}", f"{stack}.block.{index}.layer"
        for place, (ours, theirs) in enumerate(attentions.items()):
            found += _attention_entries(c, f"{here}/{ours}", f"{there}.{place}.{theirs}")
            found += scale(f"{here}/{ours}/norm", f"{there}.{place}.layer_norm", c.hidden_size)
        last = f"{there}.{len(attentions)}"
        ups = {"gate": "wi_0", "up": "wi_1"} if c.gated else {"up": "wi"}
        for ours, theirs in ups.items():
            name = f"{last}.DenseReluDense.{theirs}"
            found += linear(f"{here}/feed_forward/{ours}", name, c.hidden_size, c.intermediate_size, bias=False)
        name = f"{last}.DenseReluDense.wo"
        found += linear(f"{here}/feed_forward/down", name, c.intermediate_size, c.hidden_size, bias=False)
        found += scale(f"{here}/feed_forward/norm", f"{last}.layer_norm", c.hidden_size)
    return found + scale(f"{stack}/norm", f"{stack}.final_layer_norm", c.hidden_size)


def _attention_entries(c: T5Config, here: str, there: str) -> list[Entry]:
    inner = c.num_heads * c.head_dim
    found = []
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v")):
        found += linear(f"{here}/{ours}", f"{there}.{theirs}", c.hidden_size, inner, bias=False)
    return found + linear(f"{here}/output", f"{there}.o", inner, c.hidden_size, bias=False)


T5_FAMILY = Family(
    model_type="t5",
    config=T5Config,
    fields=fields,
    entries=entries,
    module=T5,
    tasks=("seq2seq", "features", "classify", "regress"),
    poolings=("mean",),
    prefix="",
    base="T5EncoderModel",
    classes={"seq2seq": "T5ForConditionalGeneration"},
    ignored=COPIES,
    decoder_names=(r"decoder\..*",),
)
