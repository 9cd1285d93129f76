"""GPT, the first: norms after the sums, none at the end.

References:
    Radford, Narasimhan, Salimans, Sutskever. Improving Language Understanding by Generative Pre-Training, 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.models.config import check_choice
from jaxft.models.decoder import POOLINGS, TASKS, Decoder, DecoderConfig
from jaxft.models.family import Family
from jaxft.models.gpt2 import OTHER_HEADS, gpt_fields, gpt_heads, gpt_layers
from jaxft.models.keys import Entry, table

ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "silu"}
"""What its files call an activation, and what everybody else does."""


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a GPT."""
    values = gpt_fields(raw)
    name = check_choice("afn", raw.get("afn", "gelu"), tuple(ACTIVATIONS))
    return values | {
        "activation": ACTIVATIONS[name],
        "intermediate_size": 4 * values["hidden_size"],
        "pre_norm": False,
        "scales": (values["head_dim"] ** -0.5,) * values["num_layers"],
    }


def entries(config: DecoderConfig) -> list[Entry]:
    """Every array of a GPT."""
    found = table("embeddings/word", "tokens_embed", config.vocab_size, config.hidden_size)
    found += table("embeddings/position", "positions_embed", config.max_positions, config.hidden_size)
    return found + gpt_layers(config) + gpt_heads(config, "classifier")


GPT1 = Family(
    model_type="openai-gpt",
    config=DecoderConfig,
    fields=fields,
    entries=entries,
    module=Decoder,
    tasks=TASKS,
    poolings=POOLINGS,
    prefix="transformer.",
    base="OpenAIGPTModel",
    classes={
        "lm": "OpenAIGPTLMHeadModel",
        "classify": "OpenAIGPTForSequenceClassification",
        "regress": "OpenAIGPTForSequenceClassification",
    },
    class_pooling="last",
    ignored=(*OTHER_HEADS, r"position_ids"),
)
