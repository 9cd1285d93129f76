"""RoBERTa and XLM-R: BERT's layers, positions counted over tokens that are no padding, and a pooler within the head.

References:
    Liu et al. RoBERTa: A Robustly Optimized BERT Pretraining Approach, 2019.
    Conneau et al. Unsupervised Cross-lingual Representation Learning at Scale, 2020 (XLM-R).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.models import bert
from jaxft.models.config import token
from jaxft.models.encoder import EncoderConfig, encoder_entries, encoder_family, head_entries
from jaxft.models.keys import Entry

FIELDS = bert.FIELDS | {"padding_position": token("pad_token_id", 1)}


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a RoBERTa, whose table of positions has rows up to the padding's that no token uses."""
    values = bert.fields(raw, FIELDS)
    unused = values["padding_position"] + 1
    if values["max_positions"] <= unused:
        raise InputError(
            f"max_position_embeddings in config.json must exceed pad_token_id + 1, which is {unused}; "
            f"got {values['max_positions']}"
        )
    return values | {
        "max_positions": values["max_positions"] - unused,
        "pooler_dropout": values["head_dropout"],
        "head_pooler": True,
    }


def entries(config: EncoderConfig) -> list[Entry]:
    """Every array of a RoBERTa."""
    return encoder_entries(config, bert.NAMES) + head_entries(config, "classifier.dense", "classifier.out_proj")


ROBERTA = encoder_family("roberta", "Roberta", "roberta.", fields, entries)
XLM_ROBERTA = encoder_family("xlm-roberta", "XLMRoberta", "roberta.", fields, entries)
