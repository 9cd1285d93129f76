"""BERT.

References:
    Devlin, Chang, Lee, Toutanova. BERT: Pre-training of Deep Bidirectional Transformers, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.models.config import activation, check_heads, number, read_fields, size
from jaxft.models.encoder import POOLINGS, TASKS, Encoder, EncoderConfig, encoder_entries
from jaxft.models.family import Family
from jaxft.models.keys import Entry, head, linear

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
OTHER_HEADS = (
    r"(cls|classifier|qa_outputs|lm_head|seq_relationship|pooler|discriminator_predictions|generator_.*)\..*",
    r"embeddings\.position_ids",
)


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a BERT encoder."""
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"expected absolute position embeddings; got {raw['position_embedding_type']!r}")
    if raw.get("is_decoder") or raw.get("add_cross_attention"):
        raise InputError("expected a BERT encoder; this config.json describes a decoder (is_decoder)")
    values = read_fields(raw, FIELDS)
    check_heads(values["hidden_size"], values["num_heads"])
    if values["head_dropout"] is None:
        values["head_dropout"] = values["hidden_dropout"]
    return values | {"embedding_size": values["hidden_size"]}


def entries(config: EncoderConfig) -> list[Entry]:
    """Every array of a BERT."""
    found = encoder_entries(config, NAMES)
    hidden = config.hidden_size
    if config.pooling == "cls":
        found += [entry._replace(fresh=True) for entry in linear("pooler", "pooler.dense", hidden, hidden)]
    if config.num_labels:
        name = "qa_outputs" if config.task == "spans" else "classifier"
        found += head(linear("head", name, hidden, config.num_labels))
    return found


BERT = Family(
    model_type="bert",
    config=EncoderConfig,
    fields=fields,
    entries=entries,
    module=Encoder,
    tasks=TASKS,
    poolings=POOLINGS,
    prefix="bert.",
    base="BertModel",
    classes={
        "classify": "BertForSequenceClassification",
        "regress": "BertForSequenceClassification",
        "tag": "BertForTokenClassification",
        "spans": "BertForQuestionAnswering",
    },
    ignored=OTHER_HEADS,
)
