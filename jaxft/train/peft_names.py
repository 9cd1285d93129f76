"""What a module of ours is called in the file of an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxft.errors import InputError, nearest
from jaxft.models.config import ModelConfig, Request
from jaxft.models.families import entries, family_of, file_entries
from jaxft.models.family import config_from_hf
from jaxft.models.keys import Entry

Shapes = Mapping[str, tuple[int, ...]]


def family_config(shapes: Shapes, config: ModelConfig | None) -> ModelConfig | None:
    """The configuration that names the arrays: the one given, else the one their paths and shapes tell, else None.

    Raises:
        InputError: the one given is not that of these arrays.
    """
    if config is None:
        return _bert_config(shapes)
    if not isinstance(config, ModelConfig):
        raise InputError(f"config expects the config of a model from load_model, but got a {type(config).__name__}")
    expected = {entry.path: entry.shape for entry in entries(config)}
    if extra := sorted(shapes.keys() - expected.keys()):
        raise InputError(
            f"{_some(extra)} have no name in a Hugging Face {config.family} model with pooling={config.pooling!r}; "
            "give the config of the model these params belong to"
        )
    if wrong := sorted(path for path, shape in expected.items() if shapes.get(path) != shape):
        raise InputError(
            f"the config is not that of these params: {_some(wrong)} should have shapes "
            f"{', '.join(str(list(expected[path])) for path in wrong[:3])} but have "
            f"{', '.join(str(list(shapes[path])) if path in shapes else 'no array' for path in wrong[:3])}"
        )
    return config


def named_entries(shapes: Shapes, config: ModelConfig | None) -> list[Entry]:
    """Every array with its full name there; without a configuration our own paths, joined by dots, are the names."""
    found = [_own(path, shape) for path, shape in shapes.items()] if config is None else file_entries(config)
    if fused := next((entry for entry in found if entry.parts > 1), None):
        raise InputError(
            f"{fused.path!r} is one of {fused.parts} parts of {fused.name!r} in Hugging Face's files, and the PEFT "
            "layout has no adapter for a part: merge the adapter and write the whole model with jaxft.save_model"
        )
    by_name: dict[str, str] = {}
    for entry in found:
        if by_name.setdefault(entry.name, entry.path) != entry.path:
            raise InputError(f"{by_name[entry.name]!r} and {entry.path!r} would both be named {entry.name!r}")
    return found


def module_of(entry: Entry) -> str:
    """The module an array is a parameter of."""
    return entry.name.removesuffix(".weight").removesuffix(".bias")


def is_embedding(entry: Entry) -> bool:
    """Whether the array is a table that is indexed and not multiplied."""
    return entry.path.rpartition("/")[2] == "embedding"


def unknown_module(module: str, modules: list[str]) -> InputError:
    """The error for a module that the params do not have."""
    if any(module.endswith(f".{other}") for other in modules):
        advice = (
            "the adapter is one of a Hugging Face class with a head: load the model with pooling='cls' and its head"
        )
    elif any(other.endswith(f".{module}") for other in modules):
        advice = "the adapter is one of a bare model: load the model with pooling='mean' or task='features'"
    else:
        advice = nearest(module, modules)
    return InputError(f"the adapter changes the module {module!r}, which these params do not have; {advice}")


def _own(path: str, shape: tuple[int, ...]) -> Entry:
    parents, _, last = path.rpartition("/")
    if parents and last in ("kernel", "embedding"):
        return Entry(path, f"{parents}/weight".replace("/", "."), shape, _turned(last, shape))
    return Entry(path, path.replace("/", "."), shape)


def _turned(last: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    return (1, 0) if last == "kernel" and len(shape) == 2 else None


def _bert_config(shapes: Shapes) -> ModelConfig | None:
    def axis(path: str, index: int) -> int:
        shape = shapes.get(path, ())
        return shape[index] if len(shape) == 2 else 0

    layers = {path.split("/")[1] for path in shapes if path.startswith("encoder/layer_")}
    raw: dict[str, Any] = {
        "model_type": "bert",
        "vocab_size": axis("embeddings/word/embedding", 0),
        "max_position_embeddings": axis("embeddings/position/embedding", 0),
        "type_vocab_size": axis("embeddings/token_type/embedding", 0),
        "hidden_size": axis("embeddings/word/embedding", 1),
        "intermediate_size": axis("encoder/layer_0/feed_forward/up/kernel", 1),
        "num_hidden_layers": len(layers),
        "num_attention_heads": 1,
    }
    if not all(raw.values()):
        return None
    labels = axis("head/kernel", 1)
    request = Request(
        "classify" if labels else "features", labels or None, None, "cls" if "pooler/kernel" in shapes else "mean"
    )
    config = config_from_hf(family_of(raw), raw, request)
    return config if {entry.path: entry.shape for entry in entries(config)} == dict(shapes) else None


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
