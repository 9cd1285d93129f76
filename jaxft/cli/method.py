"""The four methods of the command line as adaptations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.models import ModelConfig
    from jaxft.types import Adaptation

LEARNING_RATES = {"full": 5e-5, "top": 1e-4, "lora": 1e-3, "head": 1e-2}
"""The default learning rate of each method."""

TARGET = ["**/attention/{query,value}/kernel"]
"""The weights LoRA adapts by default."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "full": {},
    "head": {},
    "top": {"layers": 2},
    "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target": TARGET},
}


def settings(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a method: what was given, else its defaults.

    Args:
        method: "full", "head", "top" or "lora".
        given: every method's settings by name; None where nothing was given.

    Raises:
        InputError: a setting of another method was given.

    Example:
        >>> settings("top", {"layers": 3, "rank": None})
        {'layers': 3}
    """
    defaults = _DEFAULTS[method]
    for name, value in given.items():
        if value is not None and name not in defaults:
            owner = next(other for other, names in _DEFAULTS.items() if name in names)
            raise InputError(
                f"--{name} belongs to --method {owner} and means nothing to --method {method}: leave it out"
            )
    return {name: default if given[name] is None else given[name] for name, default in defaults.items()}


def adaptation(method: str, setting: Mapping[str, Any], config: ModelConfig) -> Adaptation:
    """What learns under a method; the head always does, and with it the pooler of a model that has one.

    Args:
        method: "full", "head", "top" or "lora".
        setting: from `settings`.
        config: of the model.

    Raises:
        InputError: more layers than the model has, or none; what `jaxft.lora` refuses.
    """
    from jaxft.adapt import chain, full, lora, tune
    from jaxft.trees import glob

    head = glob("head/**", "pooler/**") if config.pooling == "cls" else glob("head/**")
    if method == "full":
        return full()
    if method == "head":
        return tune(head)
    if method == "top":
        count, layers = config.num_layers, setting["layers"]
        if not 1 <= layers <= count:
            raise InputError(f"--layers must be from 1 to the model's {count} layers, got {layers}")
        return tune(head | glob(*(f"encoder/layer_{index}/**" for index in range(count - layers, count))))
    branch = lora(
        glob(*setting["target"]) & ~head,
        rank=setting["rank"],
        alpha=setting["alpha"],
        dropout=setting["dropout"],
    )
    return chain(branch, tune(head))


def title(configuration: Mapping[str, Any]) -> str:
    """What a configuration does, in a few words.

    Example:
        >>> title({"method": "top", "settings": {"layers": 2}, "model": "minilm"})
        'top 2 layers of minilm'
    """
    setting = configuration["settings"]
    names = {
        "full": "full fine-tuning",
        "head": "head only",
        "top": f"top {setting.get('layers')} layers",
        "lora": f"LoRA of rank {setting.get('rank')}",
    }
    return f"{names[configuration['method']]} of {Path(configuration['model']).name}"
