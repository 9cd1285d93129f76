"""BERT.

References:
    Devlin, Chang, Lee, Toutanova. BERT: Pre-training of Deep Bidirectional Transformers, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.models.config import Field, activation, check_heads, number, read_fields, size
from jaxft.models.encoder import EncoderConfig, encoder_entries, encoder_family, head_entries
from jaxft.models.keys import Entry, linear

FIELDS = {
    "max_positions": size("max_position_embeddings"),
    "hidden_size": size("hidden_size"),
    "num_layers": size("num_hidden_layers"),
    "num_heads": size("num_attention_heads"),
    "vocab_size": size("vocab_size"),
    "intermediate_size": size("intermediate_size"),
    "token_types": size("type_vocab_size", 2),
    "activation": activation("hidden_act", "gelu"),
    "norm_eps": number("layer_norm_eps", 1e-12),
    "hidden_dropout": number("hidden_dropout_prob", 0.1),
    "attention_dropout": number("attention_probs_dropout_prob", 0.1),
    "head_dropout": number("classifier_dropout", None),
    "initializer_range": number("initializer_range", 0.02),
}
NAMES = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "token_type": "embeddings.token_type_embeddings",
    "embeddings_norm": "embeddings.LayerNorm",
    "layer": "encoder.layer.{}",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def fields(raw: Mapping[str, Any], table: Mapping[str, Field] = FIELDS) -> dict[str, Any]:
    """The fields of an encoder of BERT's kind.

    Args:
        raw: of ``config.json``.
        table: where they stand there.
    """
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"expected absolute position embeddings; got {raw['position_embedding_type']!r}")
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise InputError("expected an encoder; this config.json describes a decoder (is_decoder)")
    values = read_fields(raw, table)
    check_heads(values["hidden_size"], values["num_heads"])
    if values["head_dropout"] is None:
        values["head_dropout"] = values["hidden_dropout"]
    derived = {"tag_dropout": values["head_dropout"], "attention_output_dropout": values["hidden_dropout"]}
    return {"embedding_size": values["hidden_size"]} | values | derived


def entries(config: EncoderConfig) -> list[Entry]:
    """Every array of a BERT."""
    found = encoder_entries(config, NAMES)
    if config.has_pooler:
        pooler = linear("pooler", "pooler.dense", config.hidden_size, config.hidden_size)
        found += [entry._replace(fresh=True) for entry in pooler]
    return found + head_entries(config, "pooler.dense", "classifier")


BERT = encoder_family("bert", "Bert", "bert.", fields, entries)
