"""DINOv2: a ViT trained without labels, with layer scale, whose positions are resized to any image.

References:
    Oquab et al. DINOv2: Learning Robust Visual Features without Supervision, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError
from jaxft.models.config import flag, number, read_fields
from jaxft.models.family import Family
from jaxft.models.keys import Entry, linear, scale
from jaxft.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from jaxft.models.vit import FIELDS as VIT_FIELDS
from jaxft.models.vit import NAMES as VIT_NAMES
from jaxft.models.vit import ViT, ViTConfig, classifier, vit_entries, vit_fields

FIELDS = {name: entry for name, entry in VIT_FIELDS.items() if name != "intermediate_size"} | {
    "norm_eps": number("layer_norm_eps", 1e-6),
}
OWN = {
    "gated": flag("use_swiglu_ffn", False),
    "masked": flag("use_mask_token", True),
    "ratio": number("mlp_ratio", 4),
    "path_dropout": number("drop_path_rate", 0.0),
}
NAMES = VIT_NAMES | {"attention/norm": "norm1", "feed_forward/norm": "norm2"}
PLAIN = {"feed_forward/up": "mlp.fc1", "feed_forward/down": "mlp.fc2"}


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a DINOv2."""
    values, own = vit_fields(raw, FIELDS, IMAGENET_MEAN, IMAGENET_STD), read_fields(raw, OWN)
    if values["image_size"][0] != values["image_size"][1]:
        raise InputError(f"image_size in config.json must be square for a dinov2; got {raw['image_size']!r}")
    if own["path_dropout"]:
        raise InputError(f"drop_path_rate in config.json must be 0: layers are not dropped; got {own['path_dropout']}")
    intermediate = int(values["hidden_size"] * own["ratio"])
    if own["gated"]:
        intermediate = (int(intermediate * 2 / 3) + 7) // 8 * 8
        values["activation"] = "silu"
    return values | {
        "intermediate_size": intermediate,
        "gated": own["gated"],
        "masked": own["masked"],
        "layer_scale": True,
        "image_size": None,
    }


def entries(config: ViTConfig) -> list[Entry]:
    """Every array of a DINOv2."""
    hidden, inner = config.hidden_size, config.intermediate_size
    names = {path: name for path, name in NAMES.items() if path not in PLAIN}
    found = vit_entries(config, names if config.gated else names | PLAIN)
    for index in range(config.num_layers):
        here, there = f"encoder/layer_{index}", f"encoder.layer.{index}"
        for number_, part in enumerate(("attention", "feed_forward"), start=1):
            (entry,) = scale(f"{here}/{part}/layer_scale", "", hidden)
            found.append(entry._replace(name=f"{there}.layer_scale{number_}.lambda1"))
        if config.gated:
            for place, part in enumerate(("gate", "up")):
                halves = linear(f"{here}/feed_forward/{part}", f"{there}.mlp.weights_in", hidden, inner)
                found += [entry._replace(part=place, parts=2, axis=0) for entry in halves]
            found += linear(f"{here}/feed_forward/down", f"{there}.mlp.weights_out", inner, hidden)
    return found + classifier(config)


DINOV2 = Family(
    model_type="dinov2",
    config=ViTConfig,
    fields=fields,
    entries=entries,
    module=ViT,
    tasks=("classify", "features"),
    poolings=("cls_mean", "cls", "mean"),
    prefix="dinov2.",
    base="Dinov2Model",
    classes={"classify": "Dinov2ForImageClassification"},
    class_pooling="cls_mean",
    ignored=(r"classifier\..*",),
)
