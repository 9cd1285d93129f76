"""A method of the command line and its settings as an adaptation of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxft.cli.methods import METHODS, Method
from jaxft.errors import InputError, nearest

if TYPE_CHECKING:
    from jaxft.trees import Selection
    from jaxft.types import Adaptation, Params

TARGET = ["**/attention/{query,value}/kernel"]
"""The weights that low-rank methods adapt by default, in a model that has attention."""

Quantised = Literal["int8", "nf4"]


def entry(method: str) -> Method:
    """A method by its name.

    Raises:
        InputError: there is none; the nearest are named.
    """
    known: dict[str, Method] = {str(name): known for name, known in METHODS.items()}
    if method not in known:
        raise InputError(f"there is no method {method!r}; {nearest(method, known)}")
    return known[method]


def settings(method: str, given: Mapping[str, Any], *, head: bool = True) -> dict[str, Any]:
    """The settings of a method: what was given, else its defaults.

    Args:
        method: a key of `METHODS`.
        given: every method's settings by name, and ``quantise``; None where nothing was given.
        head: whether the task trains a head.

    Raises:
        InputError: a setting of another method was given, the head of a task that has none, or a quantised base for a
            method that trains it.

    Example:
        >>> settings("top", {"layers": 3, "rank": None})
        {'layers': 3}
    """
    if method == "head" and not head:
        raise InputError(
            "--method head trains a fresh head, but models of tokens have none: their logits come from the pretrained "
            "embeddings; choose --method lora, top or full"
        )
    chosen = entry(method)
    quantise = given.get("quantise")
    if quantise is not None and not chosen.keeps_base:
        raise InputError(
            f"--quantise needs a method that leaves the weights as they are, which --method {method} does not: "
            "choose another, such as lora"
        )
    for name, value in given.items():
        if value is not None and name not in chosen.settings and name != "quantise":
            owners = [other for other, one in METHODS.items() if name in one.settings]
            raise InputError(
                f"--{name} belongs to --method {', '.join(owners)} and means nothing to --method {method}: leave it out"
            )
    found = {n: default if given.get(n) is None else given[n] for n, default in chosen.settings.items()}
    return found if quantise is None else {**found, "quantise": quantise}


def adaptation(method: str, setting: Mapping[str, Any], params: Params) -> Adaptation:
    """What learns under a method; a head always does, and with it a pooler before it.

    Args:
        method: a key of `METHODS`.
        setting: from `settings`, with a target where the method has one.
        params: of the model.

    Raises:
        InputError: more layers than the model has, or none; what the adaptation refuses.
    """
    from jaxft.adapt import chain, full, tune
    from jaxft.trees import everything, glob

    heads = [f"{name}/**" for name in ("head", "pooler") if name in params]
    if method == "full":
        return full()
    if method == "top":
        return tune(glob(*heads, *_top(params, setting["layers"])))
    links = []
    if setting.get("quantise"):
        from jaxft.adapt import quantise

        links.append(quantise(_without(heads, glob("**/kernel")), kind=setting["quantise"]))
    build = entry(method).build
    if build is not None:
        chosen = glob(*setting["target"]) if "target" in setting else everything
        links.append(build(_without(heads, chosen), setting))
    if heads:
        links.append(tune(glob(*heads)))
    return links[0] if len(links) == 1 else chain(*links)


def _without(heads: list[str], chosen: Selection) -> Selection:
    from jaxft.trees import glob

    return chosen & ~glob(*heads) if heads else chosen


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
    """The weights low-rank methods adapt where nothing is said: those of attention, or of pointwise convolutions.

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
    return f"{what(configuration['method'], configuration['settings'])} of {Path(configuration['model']).name}"


def what(method: str, setting: Mapping[str, Any]) -> str:
    """What a method does with its settings, in a few words.

    Example:
        >>> what("lora", {"rank": 8, "quantise": "nf4"})
        'LoRA of rank 8 on nf4'
    """
    base = f" on {setting['quantise']}" if setting.get("quantise") else ""
    return f"{entry(method).title.format(**setting)}{base}"
