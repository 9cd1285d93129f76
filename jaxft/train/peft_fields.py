"""What the configuration of an adapter may say: fields that are understood, and those that change nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.train.peft_files import CONFIG


class Method(NamedTuple):
    """A kind of adapter.

    Attributes:
        fields: that are understood.
        idle: that change nothing of what a stored adapter computes, such as how it started.
    """

    fields: frozenset[str]
    idle: frozenset[str]


def _method(fields: str, idle: str) -> Method:
    return Method(frozenset(fields.split()), frozenset(idle.split()))


COMMON = _method(
    "peft_type task_type modules_to_save",
    "auto_mapping base_model_name_or_path inference_mode peft_version revision",
)
_TARGETS = "target_modules exclude_modules layers_to_transform layers_pattern"
_PROMPT = "num_virtual_tokens num_transformer_submodules token_dim num_layers num_attention_heads"
METHODS = {
    "LORA": _method(
        f"{_TARGETS} r lora_alpha lora_dropout rank_pattern alpha_pattern bias use_rslora use_dora init_lora_weights",
        "ensure_weight_tying fan_in_fan_out loftq_config eva_config corda_config lora_ga_config megatron_config "
        "megatron_core qalora_group_size runtime_config",
    ),
    "IA3": _method(f"{_TARGETS} feedforward_modules", "fan_in_fan_out init_ia3_weights"),
    "PROMPT_TUNING": _method(
        _PROMPT, "prompt_tuning_init prompt_tuning_init_text tokenizer_name_or_path tokenizer_kwargs"
    ),
    "P_TUNING": _method(
        _PROMPT, "encoder_reparameterization_type encoder_hidden_size encoder_num_layers encoder_dropout"
    ),
    "PREFIX_TUNING": _method(_PROMPT, "encoder_hidden_size prefix_projection init_weights"),
}
"""By ``peft_type``. The vectors that P-tuning's encoder computes are stored, not the encoder; so for prefixes."""

_HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")


def check_fields(fields: Mapping[str, Any]) -> str:
    """The kind of adapter; whatever asks for more than is understood is refused by name."""
    kind = fields.get("peft_type")
    if kind not in METHODS:
        raise InputError(
            f"{CONFIG} has peft_type {kind!r}; expected one of {', '.join(METHODS)} ({nearest(str(kind), METHODS)})"
        )
    known = COMMON.fields | COMMON.idle | METHODS[kind].fields | METHODS[kind].idle
    if used := [name for name, value in fields.items() if value and name not in known]:
        raise InputError(f"{CONFIG} asks for {', '.join(sorted(used))}, which is not supported: expected plain {kind}")
    start = fields.get("init_lora_weights", True)
    if start not in _HARMLESS_STARTS:
        raise InputError(
            f"{CONFIG} has init_lora_weights {start!r}, which changes the base model too: save the adapter converted "
            "to plain LoRA (path_initial_model_for_weight_conversion in PEFT's save_pretrained)"
        )
    if fields.get("num_transformer_submodules", 1) not in (1, None):
        raise InputError(
            f"{CONFIG} has num_transformer_submodules {fields['num_transformer_submodules']!r}: prompts and prefixes "
            "of encoder-decoders are not supported; expected 1"
        )
    return str(kind)


def pattern(fields: Mapping[str, Any], patterns: str, module: str, default: str) -> Any:
    """PEFT's rule: the first regular expression that matches the end of the module's name, whole keys only."""
    found = fields.get(patterns) or {}
    try:
        key = module if module in found else next((key for key in found if re.match(rf"(.*\.)?({key})$", module)), None)
        value = fields.get(default, 8) if key is None else found[key]
    except (re.error, TypeError) as error:
        raise InputError(f"{CONFIG} must give {patterns} as regular expressions with values; got {found!r}") from error
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{CONFIG} must give {default} of {module!r} as a number; got {value!r}")
    return value


def ends(module: str, target: str) -> bool:
    """Whether a module's name ends with whole keys."""
    return f".{module}".endswith(f".{target}")


def shortest(targets: set[str], modules: set[str]) -> list[str]:
    """The last keys of the targets' names if they select the same modules, else whole names."""
    for depth in (1, 2, 3) if targets else ():
        found = {".".join(module.split(".")[-depth:]) for module in targets}
        if {module for module in modules if any(ends(module, end) for end in found)} == targets:
            return sorted(found)
    return sorted(targets)
