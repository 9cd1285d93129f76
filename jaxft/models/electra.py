"""ELECTRA's discriminator: BERT's layers over embeddings that may be narrower, and a pooler within the head.

References:
    Clark, Luong, Le, Manning. ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators, 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.models import bert
from jaxft.models.config import size
from jaxft.models.encoder import EncoderConfig, encoder_entries, encoder_family, head_entries
from jaxft.models.keys import Entry

FIELDS = bert.FIELDS | {"embedding_size": size("embedding_size", 128)}
NAMES = bert.NAMES | {"projection": "embeddings_project"}


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an ELECTRA, whose pooler has the same activation whatever the layers have."""
    values = bert.fields(raw, FIELDS)
    return values | {"pooler_dropout": values["head_dropout"], "pooler_activation": "gelu", "head_pooler": True}


def entries(config: EncoderConfig) -> list[Entry]:
    """Every array of an ELECTRA."""
    return encoder_entries(config, NAMES) + head_entries(config, "classifier.dense", "classifier.out_proj")


ELECTRA = encoder_family("electra", "Electra", "electra.", fields, entries)
