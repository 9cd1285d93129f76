"""Adapters at the modules of a model: what stands at each weight here, and what of it belongs to which module there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.models.keys import Entry
from jaxft.train.peft_fields import ends
from jaxft.train.peft_names import Site, module_of, unknown_module
from jaxft.train.peft_whole import read_whole
from jaxft.types import Array

_PART = re.compile(
    r"(?P<module>.+)\.(?:lora_(?:embedding_)?(?P<factor>[AB])(?:\.weight)?|lora_(?P<magnitude>magnitude_vector)(?:\.weight)?"
    r"|ia3_(?P<vector>l))"
)
ADVICE = "the PEFT format cannot hold it; merge it and write the whole model with jaxft.save_model"


class Stored(NamedTuple):
    """The arrays of a file.

    Attributes:
        parts: of each adapted module, as laid out there: "A", "B", "magnitude_vector", "l".
        whole: by path here and laid out as here.
        base: likewise, those under an adapter, which stand in for the base's.
    """

    parts: dict[str, dict[str, Array]]
    whole: dict[str, Array]
    base: dict[str, Array]


class Written(NamedTuple):
    """What an adapter's files say of its adapted modules.

    Attributes:
        tensors: by name, without the prefix.
        fields: of the configuration.
        notes: ``parts`` says which pieces of fused modules are adapted, and by which of the ranks.
    """

    tensors: dict[str, Any]
    fields: dict[str, Any]
    notes: dict[str, Any]


class Loaded(NamedTuple):
    """What is at each weight: its trained parts by name, and the options by path of the adaptation that has them."""

    parts: dict[str, dict[str, Array]]
    options: dict[str, Any]


def sort_tensors(
    tensors: Mapping[str, Array], prefix: str, table: Sequence[Entry], places: Mapping[str, Site]
) -> Stored:
    """Every tensor of the file at its module or path; one that has no place is refused."""
    by_name: dict[str, list[Entry]] = {}
    for entry in table:
        by_name.setdefault(entry.name, []).append(entry)
    stored = Stored({}, {}, {})
    for key, array in tensors.items():
        name = key.removeprefix(prefix)
        if part := _PART.fullmatch(name):
            module = part["module"]
            if module not in places:
                raise unknown_module(module, list(places))
            label = part["factor"] or part["magnitude"] or part["vector"]
            stored.parts.setdefault(module, {})[label] = array
            continue
        if ".original_module." in name:  # with bias="all" PEFT also writes the head it put aside, which it does not use
            continue
        found = by_name.get(name.replace(".base_layer.", ".").replace(".modules_to_save.", "."))
        if found is None:
            head = name.startswith(("classifier.", "score."))
            advice = "load the model with a head, task='classify'" if head else nearest(name, by_name)
            raise InputError(f"the adapter holds {key!r}, for which these params have no place; {advice}")
        is_base = name.endswith(".base_layer.weight")  # PEFT writes a table it adapts as well
        (stored.base if is_base else stored.whole).update(read_whole(key, name, array, found))
    return stored


def check_targets(
    fields: Mapping[str, Any], table: Sequence[Entry], places: Mapping[str, Site], stored: Stored
) -> None:
    """What the configuration names must be in the file: no target without parts, no head that got lost."""
    if not stored.parts:
        raise InputError("the adapter changes no module: its file holds no lora_A, lora_B or ia3_l")
    saved = fields.get("modules_to_save") or []
    for entry in table:
        module = module_of(entry)
        if entry.path not in stored.whole and any(f".{name}." in f".{module}." for name in saved):
            raise InputError(f"the adapter says that it trained {module!r}, but its file lacks {entry.name!r}")
    targets = fields.get("target_modules")
    if isinstance(targets, str) and targets != "all-linear":
        _check_expression(targets, stored)
    if not isinstance(targets, list):
        return
    for target in targets:
        if not any(ends(module, target) for module in stored.parts):
            raise InputError(
                f"the target module {target!r} matches nothing in the file; {nearest(target, stored.parts)}"
            )
    if fields.get("layers_to_transform") is None and not fields.get("exclude_modules"):
        for module, site in places.items():
            hit = any(ends(module, target) for target in targets)
            if hit and module not in stored.parts and not any(entry.path in stored.whole for entry in site.parts):
                raise InputError(f"the adapter targets {module!r}, but its file lacks the factors: fetch it again")


def _check_expression(targets: str, stored: Stored) -> None:
    try:
        other = next((module for module in stored.parts if not re.fullmatch(targets, module)), None)
    except re.error as error:
        raise InputError(f"target_modules {targets!r} is no regular expression: {error}") from error
    if other is not None:
        raise InputError(f"the adapter changes {other!r}, which its target_modules {targets!r} do not match")


def places_of(leaves: Mapping[str, Any], places: Mapping[str, Site]) -> dict[str, list[str]]:
    """The adapted paths of each module; one that is no weight of a module is refused by name."""
    module_at = {entry.path: module for module, site in places.items() for entry in site.parts}
    found: dict[str, list[str]] = {}
    for path, leaf in leaves.items():
        if path not in module_at:
            raise InputError(
                f"{path!r} has shape {list(leaf.shape)}, and is no weight of a linear layer, a convolution or an "
                f"embedding: {ADVICE}"
            )
        found.setdefault(module_at[path], []).append(path)
    return found
