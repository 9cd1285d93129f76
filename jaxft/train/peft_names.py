"""What a module of ours is called in the file of an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jaxft.errors import InputError, nearest
from jaxft.models.config import ModelConfig
from jaxft.models.families import entries, file_entries
from jaxft.models.keys import Entry

Shapes = Mapping[str, tuple[int, ...]]
_OURS = re.compile(r"(encoder|decoder)/layer_0/attention/query/kernel")


def family_config(shapes: Shapes, config: ModelConfig | None) -> ModelConfig | None:
    """The configuration that names the arrays; None for a model of another library.

    Raises:
        InputError: the one given is not that of these arrays, or none is given for those of a model from load_model:
            a BERT and a RoBERTa have the same arrays under other names.
    """
    if config is None:
        if ours := next((path for path in shapes if _OURS.fullmatch(path)), None):
            raise InputError(
                f"params with {ours!r} are those of a model from load_model, and families with the same arrays have "
                "other names for them: give config=model.config"
            )
        return None
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


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
