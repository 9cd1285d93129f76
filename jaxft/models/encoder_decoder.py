"""An encoder and a decoder that are both BERTs (BERT2BERT).

Params of the encoder are at ``embeddings/…`` and ``encoder/layer_0/…`` as in BERT, those of the decoder at
``decoder_embeddings/…`` and ``decoder/layer_0/{attention,cross_attention,feed_forward}/…``. Where the decoder has
another size, ``encoder/projection/{kernel,bias}`` brings the encoder's states to it. The outputs are f(h W + b) under a
norm (``lm_head/transform/{kernel,bias}``, ``lm_head/norm/{scale,bias}``), compared with
``decoder_embeddings/word/embedding``, plus ``lm_head/bias``. ``pooler/{kernel,bias}`` is the encoder's, which nothing
here reads: it is kept so that Hugging Face finds a whole BERT.

References:
    Rothe, Narayan, Severyn. Leveraging Pre-trained Checkpoints for Sequence Generation Tasks, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.errors import InputError
from jaxft.models.bert import BERT, NAMES
from jaxft.models.config import Request, read_fields, stop_token, token
from jaxft.models.encoder import Embeddings, EncoderConfig, encoder_entries
from jaxft.models.family import Family, config_from_hf
from jaxft.models.inputs import NOISE
from jaxft.models.keys import Entry, linear, norm
from jaxft.models.layers import ACTIVATION_FUNCTIONS, Affine, LayerNorm, Table, dense
from jaxft.models.seq2seq import Seq2SeqConfig, next_cache, seen_by_layers, source_visible, target_sight
from jaxft.models.slots import find, slots_of, without_prompt
from jaxft.models.transformer import Layers, Memory
from jaxft.types import Outputs

TOKENS = {
    "decoder_start_token": token("decoder_start_token_id"),
    "eos_token": stop_token("eos_token_id"),
    "pad_token": token("pad_token_id", 0),
}
SIZES = ("hidden_size", "num_layers", "num_heads", "vocab_size", "max_positions", "token_types")
PARTS = {"embeddings": "decoder_embeddings", "encoder": "decoder"}


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(Seq2SeqConfig):
    """Of two BERTs; sizes without a part are those of the encoder.

    Attributes:
        encoder: reads ``input_ids``.
        decoder: writes, and may differ from the encoder in every size.
    """

    encoder: EncoderConfig
    decoder: EncoderConfig

    @property
    def dropouts(self) -> tuple[float, ...]:
        """Every rate that training needs a key for."""
        return tuple(
            rate for part in (self.encoder, self.decoder) for rate in (part.hidden_dropout, part.attention_dropout)
        )

    @property
    def max_target_positions(self) -> int:
        """Longest output in tokens."""
        return self.decoder.max_positions

    @property
    def cache_sizes(self) -> tuple[int, int, int]:
        """Layers, heads and head dimension of the decoder."""
        decoder = self.decoder
        return decoder.num_layers, decoder.num_heads, decoder.hidden_size // decoder.num_heads

    @property
    def projected(self) -> bool:
        """Whether the encoder's states are brought to another size."""
        return self.encoder.hidden_size != self.decoder.hidden_size


class EncoderDecoder(nn.Module):
    """A BERT encoder and a BERT decoder that looks at its states."""

    config: EncoderDecoderConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, batch: Mapping[str, Any], train: bool = False) -> Outputs:
        c, cache = self.config, batch.get("cache")
        slots = slots_of(self)
        mask, sight = source_visible(batch, slots.prompt)[:, None, None, :], target_sight(batch, slots.decoder)
        source = None
        if cache is None or not cache.encoded:
            embeddings = Embeddings(c.encoder, self.dtype, name="embeddings")
            embedded = embeddings(
                batch["input_ids"],
                batch.get("token_type_ids"),
                train,
                start=slots.encoder,
                prompt=find(self, "embeddings/prompt"),
                noise=batch.get(NOISE),
            )
            source = Source(c, self.dtype, self.remat, name="encoder")(embedded, mask, train)
        embed = Embeddings(c.decoder, self.dtype, name="decoder_embeddings")
        x = embed(batch["decoder_input_ids"], None, train, slots.decoder + (0 if cache is None else cache.place))
        layers = Layers((c.decoder.block(self.dtype),) * c.decoder.num_layers, self.remat, name="decoder")
        found = layers(
            x, [sight.mask], train, caches=seen_by_layers(cache), memory=Memory(source and source.memory, mask)
        )
        logits = LanguageHead(c.decoder, self.dtype, name="lm_head")(found.states[-1], embed.word)
        return Outputs(
            logits=logits,
            hidden_states=found.states,
            attentions=found.attentions,
            projections=found.projections,
            encoder_hidden_states=source and without_prompt(source.states, slots.prompt),
            cache=next_cache(cache, found.layers, sight),
        )


class Read(NamedTuple):
    """What an encoder returns: its states, the embeddings first, and what the decoder reads of them."""

    states: tuple[Array, ...]
    memory: Array


class Source(nn.Module):
    """The encoder's layers, and a projection to the decoder's size."""

    config: EncoderDecoderConfig
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Read:
        encoder, decoder = self.config.encoder, self.config.decoder
        layers = Layers((encoder.block(self.dtype),) * encoder.num_layers, self.remat)
        nn.share_scope(self, layers)
        states = layers(x, [mask], train).states
        if not self.config.projected:
            return Read(states, states[-1])
        projection = Affine(encoder.hidden_size, decoder.hidden_size, self.dtype, name="projection")
        return Read(states, dense(states[-1], projection))


class LanguageHead(nn.Module):
    """norm(f(h W + b)) Eᵀ + c with the word embeddings E, in float32."""

    config: EncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, hidden: Array, words: Table) -> Array:
        c = self.config
        inner = dense(hidden, Affine(c.hidden_size, c.hidden_size, self.dtype, name="transform"))
        inner = LayerNorm(c.norm_eps, name="norm")(ACTIVATION_FUNCTIONS[c.activation](inner))
        bias = self.param("bias", nn.initializers.zeros, (c.vocab_size,))
        return words.attend(inner).astype(jnp.float32) + bias


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of both parts, and of the special tokens."""
    parts = {name: _part(name, raw.get(name)) for name in ("encoder", "decoder")}
    for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        if raw.get(name) is None and raw["decoder"].get(name) is not None:
            raw = dict(raw) | {name: raw["decoder"][name]}
    width = raw["decoder"].get("cross_attention_hidden_size")
    if width not in (None, parts["encoder"].hidden_size) or (width and width != parts["decoder"].hidden_size):
        raise InputError(
            f"expected no cross_attention_hidden_size in the decoder of config.json; got {width!r}: "
            "a BERT attends to states of its own size"
        )
    return {
        **read_fields(raw, TOKENS),
        **parts,
        **{name: getattr(parts["encoder"], name) for name in SIZES},
        "initializer_range": parts["decoder"].initializer_range,
    }


def _part(name: str, raw: Any) -> EncoderConfig:
    if not isinstance(raw, Mapping) or raw.get("model_type") != BERT.model_type:
        found = raw.get("model_type") if isinstance(raw, Mapping) else raw
        raise InputError(f"expected a config.json whose {name} is a bert; got {found!r}")
    if name == "decoder" and raw.get("tie_word_embeddings") is False:
        raise InputError("expected a decoder whose outputs are tied to its word embeddings (tie_word_embeddings)")
    plain = dict(raw) | {"is_decoder": False, "add_cross_attention": False}
    return cast(EncoderConfig, config_from_hf(BERT, plain, Request("features")))


def entries(config: EncoderDecoderConfig) -> list[Entry]:
    """Every array of two BERTs."""
    encoder, decoder = config.encoder, config.decoder
    found = [entry._replace(name=f"encoder.{entry.name}") for entry in encoder_entries(encoder, NAMES)]
    pooler = linear("pooler", "encoder.pooler.dense", encoder.hidden_size, encoder.hidden_size)
    found += [entry._replace(fresh=True) for entry in pooler]
    if config.projected:
        found += linear("encoder/projection", "enc_to_dec_proj", encoder.hidden_size, decoder.hidden_size)
    for entry in encoder_entries(decoder, NAMES):
        part, rest = entry.path.split("/", 1)
        found.append(entry._replace(path=f"{PARTS[part]}/{rest}", name=f"decoder.bert.{entry.name}"))
    return found + _cross_entries(decoder) + _head_entries(decoder)


def _cross_entries(decoder: EncoderConfig) -> list[Entry]:
    hidden, found = decoder.hidden_size, []
    for index in range(decoder.num_layers):
        here, there = f"decoder/layer_{index}/cross_attention", f"decoder.bert.encoder.layer.{index}.crossattention"
        for name in ("query", "key", "value"):
            found += linear(f"{here}/{name}", f"{there}.self.{name}", hidden, hidden)
        found += linear(f"{here}/output", f"{there}.output.dense", hidden, hidden)
        found += norm(f"{here}/norm", f"{there}.output.LayerNorm", hidden)
    return found


def _head_entries(decoder: EncoderConfig) -> list[Entry]:
    hidden, there = decoder.hidden_size, "decoder.cls.predictions"
    found = linear("lm_head/transform", f"{there}.transform.dense", hidden, hidden)
    found += norm("lm_head/norm", f"{there}.transform.LayerNorm", hidden)
    return [*found, Entry("lm_head/bias", f"{there}.bias", (decoder.vocab_size,))]


ENCODER_DECODER = Family(
    model_type="encoder-decoder",
    config=EncoderDecoderConfig,
    fields=fields,
    entries=entries,
    module=EncoderDecoder,
    tasks=("seq2seq",),
    poolings=("mean",),
    prefix="",
    base="EncoderDecoderModel",
    classes={"seq2seq": "EncoderDecoderModel"},
    ignored=(
        r"(encoder|decoder\.bert)\.embeddings\.position_ids",
        r"decoder\.cls\.predictions\.decoder\.(weight|bias)",
        r"decoder\.bert\.pooler\..*",
    ),
)
