"""Every architecture by its ``model_type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError, nearest
from jaxft.models.bert import BERT
from jaxft.models.config import ModelConfig
from jaxft.models.deit import DEIT
from jaxft.models.dinov2 import DINOV2
from jaxft.models.distilbert import DISTILBERT
from jaxft.models.efficientnet import EFFICIENTNET
from jaxft.models.electra import ELECTRA
from jaxft.models.encoder_decoder import ENCODER_DECODER
from jaxft.models.family import Family, class_of
from jaxft.models.gpt1 import GPT1
from jaxft.models.gpt2 import GPT2
from jaxft.models.keys import Entry
from jaxft.models.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from jaxft.models.resnet import RESNET
from jaxft.models.roberta import ROBERTA, XLM_ROBERTA
from jaxft.models.t5 import T5_FAMILY
from jaxft.models.vit import VIT

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        BERT,
        ROBERTA,
        XLM_ROBERTA,
        DISTILBERT,
        ELECTRA,
        T5_FAMILY,
        ENCODER_DECODER,
        EFFICIENTNET,
        RESNET,
        VIT,
        DEIT,
        DINOV2,
        GPT1,
        GPT2,
        LLAMA,
        MISTRAL,
        QWEN2,
        QWEN3,
    )
}


def family_of(raw: Mapping[str, Any]) -> Family:
    """The architecture a ``config.json`` names.

    Raises:
        InputError: it names none that is supported; those are listed.
    """
    name = raw.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(
            f"expected a config.json whose model_type is one of {', '.join(FAMILIES)}; got {name!r} "
            f"({nearest(str(name), FAMILIES)})"
        )
    return FAMILIES[name]


def entries(config: ModelConfig) -> list[Entry]:
    """Every array of a model, named as in a file without the family's prefix."""
    return FAMILIES[config.family].entries(config)


def file_entries(config: ModelConfig) -> list[Entry]:
    """Every array of a model, named as in a file of the Hugging Face class that holds it."""
    prefix = file_prefix(config)
    return [entry if entry.bare else entry._replace(name=prefix + entry.name) for entry in entries(config)]


def file_prefix(config: ModelConfig) -> str:
    """What the names of a backbone start with in the file of a model."""
    return FAMILIES[config.family].prefix if has_class(config) else ""


def has_class(config: ModelConfig) -> bool:
    """Whether Hugging Face has a class that holds the model with its head."""
    return class_of(FAMILIES[config.family], config) is not None
