"""DistilBERT: half of BERT's layers, without kinds of tokens, and a pooler within the head.

References:
    Sanh, Debut, Chaumond, Wolf. DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.models.config import activation, check_heads, number, read_fields, size
from jaxft.models.encoder import EncoderConfig, encoder_entries, encoder_family, head_entries
from jaxft.models.keys import Entry

FIELDS = {
    "max_positions": size("max_position_embeddings"),
    "hidden_size": size("dim"),
    "num_layers": size("n_layers"),
    "num_heads": size("n_heads"),
    "vocab_size": size("vocab_size"),
    "intermediate_size": size("hidden_dim"),
    "activation": activation("activation", "gelu"),
    "hidden_dropout": number("dropout", 0.1),
    "attention_dropout": number("attention_dropout", 0.1),
    "head_dropout": number("seq_classif_dropout", 0.2),
    "spans_dropout": number("qa_dropout", 0.1),
    "initializer_range": number("initializer_range", 0.02),
}
NAMES = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "embeddings_norm": "embeddings.LayerNorm",
    "layer": "transformer.layer.{}",
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a DistilBERT; what its file does not name is fixed."""
    values = read_fields(raw, FIELDS)
    check_heads(values["hidden_size"], values["num_heads"], names=("dim", "n_heads"))
    return values | {
        "embedding_size": values["hidden_size"],
        "norm_eps": 1e-12,
        "attention_output_dropout": 0.0,
        "tag_dropout": values["hidden_dropout"],
        "pooler_activation": "relu",
        "head_pooler": True,
    }


def entries(config: EncoderConfig) -> list[Entry]:
    """Every array of a DistilBERT."""
    return encoder_entries(config, NAMES) + head_entries(config, "pre_classifier", "classifier")


DISTILBERT = encoder_family("distilbert", "DistilBert", "distilbert.", fields, entries)
