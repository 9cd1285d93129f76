"""The four methods of the command line as adaptations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.errors import InputError

if TYPE_CHECKING:
    from jaxft.types import Adaptation, Params

LEARNING_RATES = {"full": 5e-5, "top": 1e-4, "lora": 1e-3, "head": 1e-2}
"""The default learning rate of each method."""

TARGET = ["**/attention/{query,value}/kernel"]
"""The weights LoRA adapts by default, in a model that has attention."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "full": {},
    "head": {},
    "top": {"layers": 2},
    "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target": None},
}


def settings(method: str, given: Mapping[str, Any], *, head: bool = True) -> dict[str, Any]:
    """The settings of a method: what was given, else its defaults.

    Args:
        method: "full", "head", "top" or "lora".
        given: every method's settings by name; None where nothing was given.
        head: whether the task trains a head.

    Raises:
        InputError: a setting of another method was given, or the head of a task that has none.

    Example:
        >>> settings("top", {"layers": 3, "rank": None})
        {'layers': 3}
    """
    if method == "head" and not head:
        raise InputError(
            "--method head trains a fresh head, but models of tokens have none: their logits come from the pretrained "
            "embeddings; choose --method lora, top or full"
        )
    defaults = _DEFAULTS[method]
    for name, value in given.items():
        if value is not None and name not in defaults:
            owner = next(other for other, names in _DEFAULTS.items() if name in names)
            raise InputError(
                f"--{name} belongs to --method {owner} and means nothing to --method {method}: leave it out"
            )
    return {name: default if given[name] is None else given[name] for name, default in defaults.items()}


def adaptation(method: str, setting: Mapping[str, Any], params: Params) -> Adaptation:
    """What learns under a method; a head always does, and with it a pooler before it.

    Args:
        method: "full", "head", "top" or "lora".
        setting: from `settings`, with a target.
        params: of the model.

    Raises:
        InputError: more layers than the model has, or none; what `jaxft.lora` refuses.
    """
    from jaxft.adapt import chain, full, lora, tune
    from jaxft.trees import glob

    heads = [f"{name}/**" for name in ("head", "pooler") if name in params]
    if method == "full":
        return full()
    if method == "head":
        return tune(glob(*heads))
    if method == "top":
        return tune(glob(*heads, *_top(params, setting["layers"])))
    chosen = glob(*setting["target"])
    branch = lora(
        chosen & ~glob(*heads) if heads else chosen,
        rank=setting["rank"],
        alpha=setting["alpha"],
        dropout=setting["dropout"],
    )
    return chain(branch, tune(glob(*heads))) if heads else branch


def _top(params: Params, count: int) -> list[str]:
    """Globs of the last layers of the stack that the output is read from, and of what lies between them and it."""
    from jaxft.trees import leaf_paths

    stack = "decoder" if "decoder" in params else "encoder"
    layers = {match[0] for path in leaf_paths(params) if (match := re.match(rf"{stack}/(stage_\d+/)?layer_\d+/", path))}
    order = sorted(layers, key=lambda layer: [int(number) for number in re.findall(r"\d+", layer)])
    if not 1 <= count <= len(order):
        raise InputError(f"--layers must be from 1 to the model's {len(order)} layers, got {count}")
    after = [name for name, there in (("top", params), ("norm", params[stack])) if name in there]
    return [f"{layer}**" for layer in order[-count:]] + [
        f"{stack}/norm/**" if n == "norm" else f"{n}/**" for n in after
    ]


def default_target(params: Params) -> list[str]:
    """The weights LoRA adapts where nothing is said: those of attention, or of pointwise convolutions.

    A convolutional net without pointwise ones has all its convolutions adapted but the depthwise.

    Args:
        params: of the model.
    """
    from jaxft.trees import leaf_paths

    leaves = leaf_paths(params)
    if any(re.search(r"(^|/)attention/(query|value)/kernel$", path) for path in leaves):
        return TARGET
    kernels = {
        path.split("/")[-2]: leaf.shape
        for path, leaf in leaves.items()
        if re.match("(en|de)coder/.*/kernel$", path) and leaf.ndim == 4 and leaf.shape[2] > 1
    }
    pointwise = [name for name, shape in kernels.items() if shape[:2] == (1, 1)]
    return [f"encoder/**/{name}/kernel" for name in sorted(pointwise or kernels)]


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
