"""DeiT: a ViT with a second token that learned from a teacher.

References:
    Touvron et al. Training Data-Efficient Image Transformers & Distillation through Attention, 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.models.family import Family
from jaxft.models.keys import Entry
from jaxft.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxft.models.vit import FIELDS, NAMES, ViT, ViTConfig, classifier, vit_entries, vit_fields


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a DeiT."""
    return vit_fields(raw, FIELDS, IMAGENET_MEAN, IMAGENET_STD) | {"distilled": True}


def entries(config: ViTConfig) -> list[Entry]:
    """Every array of a DeiT."""
    found = vit_entries(config, NAMES)
    if config.pooling != "distilled":
        return found + classifier(config)
    second = classifier(config, "head/distillation", "distillation_classifier")
    return found + classifier(config, name="cls_classifier") + second


DEIT = Family(
    model_type="deit",
    config=ViTConfig,
    fields=fields,
    entries=entries,
    module=ViT,
    tasks=("classify", "features"),
    poolings=("cls", "mean", "distilled"),
    prefix="deit.",
    base="DeiTModel",
    classes={"classify": "DeiTForImageClassification"},
    pooled_classes={"distilled": "DeiTForImageClassificationWithTeacher"},
    ignored=(r"((cls_|distillation_)?classifier|pooler|decoder)\..*", r"embeddings\.mask_token"),
)
