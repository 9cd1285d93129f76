"""The two files of an adapter, read and checked against the params they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.files import read_json_object
from jaxft.models.keys import Entry
from jaxft.train.peft_names import module_of, unknown_module
from jaxft.train.peft_save import CONFIG, NOTES, PREFIX, WEIGHTS
from jaxft.types import Array

_UNSUPPORTED = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
)
_HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?:embedding_)?(?P<part>[AB])(?:\.weight)?")


class Factor(NamedTuple):
    """The low-rank factors of a module: A [in, r] and B [r, out]."""

    module: str
    a: Array
    b: Array


class Stored(NamedTuple):
    """The arrays of the file, by path here and laid out as here."""

    factors: dict[str, Factor]
    whole: dict[str, Array]


def read_fields(place: Path) -> dict[str, Any]:
    """The fields of ``adapter_config.json``; whatever asks for more than plain LoRA is refused."""
    path = place / CONFIG
    if not path.is_file():
        raise InputError(f"{place} holds no {CONFIG}: expected the directory of a PEFT adapter")
    fields = read_json_object(path)
    if fields.get("peft_type") != "LORA":
        raise InputError(f"{path} has peft_type {fields.get('peft_type')!r}; 'LORA' is the one supported")
    if used := [name for name in _UNSUPPORTED if fields.get(name)]:
        raise InputError(f"{path} asks for {', '.join(used)}, which is not supported: expected plain LoRA")
    start = fields.get("init_lora_weights", True)
    if start not in _HARMLESS_STARTS:
        raise InputError(
            f"{path} has init_lora_weights {start!r}, which changes the base model too: save the adapter converted to "
            "plain LoRA (path_initial_model_for_weight_conversion in PEFT's save_pretrained)"
        )
    return fields


def read_notes(place: Path) -> dict[str, Any]:
    """What :func:`save_adapter` noted beside the two files; PEFT leaves no notes, and all that it stores learned."""
    notes: dict[str, Any] = {"base": None, "frozen": []}
    return notes | (read_json_object(place / NOTES) if (place / NOTES).is_file() else {})


def read_tensors(place: Path) -> dict[str, Array]:
    """The tensors of the file by their names there."""
    from safetensors import SafetensorError
    from safetensors.flax import load_file

    path = place / WEIGHTS
    if not path.is_file():
        pickle = " but a pickle, which is not read" if (place / "adapter_model.bin").is_file() else ""
        raise InputError(f"{place} holds no {WEIGHTS}{pickle}: write or fetch the adapter again, as safetensors")
    try:
        return dict(load_file(str(path)))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or truncated ({error}): write or fetch it again") from error


def sort_tensors(tensors: Mapping[str, Array], table: list[Entry]) -> Stored:
    """Every tensor of the file at its path, laid out as here; one that has no place is refused."""
    by_name = {entry.name: entry for entry in table}
    linear = {module_of(entry): entry for entry in table if len(entry.shape) == 2}
    parts: dict[str, dict[str, Array]] = {}
    whole: dict[str, Array] = {}
    for key, array in tensors.items():
        name = key.removeprefix(PREFIX)
        if factor := _FACTOR.fullmatch(name):
            module = factor["module"]
            if module not in linear:
                raise unknown_module(module, list(linear))
            parts.setdefault(module, {})[factor["part"]] = array.T
            continue
        if ".original_module." in name:  # with bias="all" PEFT also writes the head it put aside, which it does not use
            continue
        entry = by_name.get(name.replace(".base_layer.", ".").replace(".modules_to_save.", "."))
        if entry is None:
            head = name.startswith("classifier.")
            advice = "load the model with a head, task='classify'" if head else nearest(name, by_name)
            raise InputError(f"the adapter holds {key!r}, for which these params have no place; {advice}")
        whole[entry.path] = array.T if entry.transpose else array
        _check_shape(key, tuple(array.shape), entry.shape[::-1] if entry.transpose else entry.shape)
    factors = {linear[module].path: _pair(module, found, linear[module]) for module, found in parts.items()}
    if not factors:
        raise InputError("the adapter holds no low-rank factors (lora_A, lora_B): nothing of it is LoRA")
    return Stored(factors, whole)


def _check_shape(key: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if found != expected:
        advice = (
            "load the model with the adapter's num_labels" if ".classifier." in f".{key}" else "load its base model"
        )
        raise InputError(f"{key} is {list(found)} in the adapter but {list(expected)} in these params: {advice}")


def _pair(module: str, found: Mapping[str, Array], entry: Entry) -> Factor:
    if missing := [part for part in "AB" if part not in found]:
        raise InputError(f"the adapter lacks lora_{missing[0]} of {module!r}: write or fetch it again")
    a, b = found["A"], found["B"]
    if a.ndim != 2 or b.ndim != 2 or (a.shape[0], b.shape[1]) != entry.shape or a.shape[1] != b.shape[0]:
        inputs, outputs = entry.shape
        raise InputError(
            f"{module} has lora_A {list(a.T.shape)} and lora_B {list(b.T.shape)} in the adapter, but these params "
            f"expect [r, {inputs}] and [{outputs}, r]: load its base model"
        )
    return Factor(module, a, b)


def check_targets(fields: Mapping[str, Any], table: list[Entry], stored: Stored) -> None:
    """What the configuration names must be in the file: no target without factors, no head that got lost."""
    saved = fields.get("modules_to_save") or []
    for entry in table:
        module = module_of(entry)
        if entry.path not in stored.whole and any(f".{name}." in f".{module}." for name in saved):
            raise InputError(f"the adapter says that it trained {module!r}, but its file lacks {entry.name!r}")
    targets = fields.get("target_modules")
    if not isinstance(targets, list):
        return
    changed = {factor.module for factor in stored.factors.values()}
    for target in targets:
        if not any(_ends(module, target) for module in changed):
            raise InputError(f"the target module {target!r} matches nothing in the file; {nearest(target, changed)}")
    if fields.get("layers_to_transform") is None and not fields.get("exclude_modules"):
        for entry in table:
            module = module_of(entry)
            hit = len(entry.shape) == 2 and any(_ends(module, target) for target in targets)
            if hit and module not in changed and entry.path not in stored.whole:
                raise InputError(f"the adapter targets {module!r}, but its file lacks the factors: fetch it again")


def _ends(module: str, target: str) -> bool:
    return f".{module}".endswith(f".{target}")
