"""Students: a model from some layers of another, or of its family with other sizes and nothing learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxft.errors import InputError, nearest
from jaxft.models.config import ModelConfig, Request
from jaxft.models.families import FAMILIES
from jaxft.models.family import config_from_hf
from jaxft.models.load import build_apply, build_params
from jaxft.types import Model, Params

_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""What families call the number of layers in ``config.json``."""
_STACKS = ("encoder", "decoder")


def shrink(model: Model, *, layers: Sequence[int]) -> Model:
    """A student of some layers of its teacher; embeddings, final norms and the head are the teacher's.

    It is a model of the same family, to be trained, saved and loaded like any other. Its arrays are those of the
    teacher, not copies. DistilBERT takes every second layer.

    Args:
        model: a transformer of `load_model` with one stack of layers, with plain params or an adaptation bound.
        layers: numbers of its layers, the first 0, in the order in which the student has them.

    Raises:
        InputError: no layer, one that the model does not have, or a model without one stack of layers.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="classify", num_labels=2)
        >>> student = shrink(teacher, layers=(1, 3, 5))
        >>> student.config.num_layers, sorted(student.params["encoder"])
        (3, ['layer_0', 'layer_1', 'layer_2'])

    References:
        Sanh et al., "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", 2019.
    """
    config = _transformer(model, "shrink")
    chosen, raw = _chosen(layers, config.num_layers), dict(config.raw)
    raw[_depth(raw)] = len(chosen)
    changes: dict[str, Any] = {"num_layers": len(chosen), "raw": raw}
    for name in ("scales", "windows"):
        if hasattr(config, name):
            changes[name] = tuple(getattr(config, name)[layer] for layer in chosen)
    windows, kinds = getattr(config, "windows", ()), raw.get("layer_types")
    if kinds is None and any(windows):
        kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
    if kinds is not None:
        raw["layer_types"] = [kinds[layer] for layer in chosen]
    smaller = replace(config, **changes)
    params = {**model.params, **{name: _taken(model.params[name], chosen) for name in _stacks(model.params)}}
    return Model(build_apply(smaller, remat=False), params, smaller, model.tokenizer)


def from_scratch(model: Model, *, seed: int = 0, **fields: Any) -> Model:
    """A student of the family of a model with other sizes, for the same task, from random params.

    Args:
        model: of `load_model`; its tokenizer, task and labels are the student's.
        seed: of the params.
        **fields: of ``config.json`` in the names of the family, such as ``num_hidden_layers=2``,
            ``hidden_size=128``, ``num_attention_heads=4``, ``intermediate_size=512``.

    Raises:
        InputError: a field that the family's ``config.json`` does not have, or sizes that do not fit together.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="classify", num_labels=2)
        >>> student = from_scratch(teacher, num_hidden_layers=2, hidden_size=96, intermediate_size=192)
        >>> student.params["encoder"]["layer_1"]["feed_forward"]["up"]["kernel"].shape
        (96, 192)
    """
    if not isinstance(model.config, ModelConfig):
        raise InputError(f"from_scratch expects a model of load_model; its config is a {type(model.config).__name__}")
    config = model.config
    if unknown := [name for name in fields if name not in config.raw]:
        raise InputError(
            f"{unknown[0]!r} is no field of the config.json of this {config.family}: {nearest(unknown[0], config.raw)}"
        )
    labels = config.labels if config.num_labels and config.task != "spans" else None
    pooling = None if config.pooling == "tokens" else config.pooling
    found = config_from_hf(
        FAMILIES[config.family], {**config.raw, **fields}, Request(config.task, None, labels, pooling)
    )
    found = replace(found, dtype=config.dtype)
    return Model(build_apply(found, remat=False), build_params(found, {}, seed), found, model.tokenizer)


def same_vocabulary(teacher: Model, student: Model) -> None:
    """Refuses two models that read or write different tokens.

    Args:
        teacher: with its tokenizer.
        student: with its tokenizer.

    Raises:
        InputError: one has no tokenizer, or their tokens differ.

    Example:
        >>> import jaxft as ft
        >>> teacher = ft.load_model("minilm", task="features")
        >>> same_vocabulary(teacher, shrink(teacher, layers=(0,)))
    """
    vocabularies = [None if model.tokenizer is None else model.tokenizer.get_vocab() for model in (teacher, student)]
    for whose, found in zip(("teacher", "student"), vocabularies, strict=True):
        if found is None:
            raise InputError(f"the {whose} has no tokenizer, so that nothing says what its tokens are")
    first, second = vocabularies
    if first == second:
        return
    assert first is not None, "checked above"
    assert second is not None, "checked above"
    other = next((word for word, number in first.items() if second.get(word) != number), None)
    said = f"{other!r} is token {first[other]} of the teacher and {second.get(other)} of the student" if other else ""
    raise InputError(
        f"teacher and student have vocabularies of {len(first)} and {len(second)} tokens{said and ', and '}{said}: "
        "distillation token by token needs one tokenizer. For labels of whole rows let distil.remember ask the teacher "
        "about its own tokens, and put the columns beside the student's; for text, train on what the teacher wrote"
    )


def _transformer(model: Model, name: str) -> ModelConfig:
    config = model.config
    stacks = _stacks(model.params) if isinstance(config, ModelConfig) else []
    if not isinstance(config, ModelConfig) or len(stacks) != 1 or _depth(config.raw, missing="") == "":
        kind = getattr(config, "family", type(config).__name__)
        raise InputError(
            f"{name} takes layers of a transformer with one stack of them, of load_model; this is a {kind} with "
            f"{' and '.join(stacks) or 'none'}: shrink the parts before they are put together, or start from_scratch"
        )
    return config


def _depth(raw: Mapping[str, Any], missing: str | None = None) -> str:
    found = next((name for name in _DEPTHS if name in raw), missing)
    assert found is not None, "every family's config.json names its layers"
    return found


def _stacks(params: Params) -> list[str]:
    return [name for name in _STACKS if isinstance(params, Mapping) and "layer_0" in params.get(name, {})]


def _chosen(layers: Sequence[int], number: int) -> list[int]:
    chosen = list(layers)
    wrong = [n for n in chosen if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < number]
    if not chosen or wrong:
        said = repr(wrong[0]) if wrong else "none"
        raise InputError(f"shrink takes layers 0 to {number - 1} of this model, at least one; got {said}")
    return chosen


def _taken(stack: Mapping[str, Any], chosen: Sequence[int]) -> dict[str, Any]:
    """The chosen layers under new numbers, beside what is not a layer."""
    rest = {name: part for name, part in stack.items() if not name.startswith("layer_")}
    return rest | {f"layer_{place}": stack[f"layer_{layer}"] for place, layer in enumerate(chosen)}
