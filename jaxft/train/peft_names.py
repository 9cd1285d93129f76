"""What a module of ours is called in the file of an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxft.errors import InputError, nearest
from jaxft.models.config import ModelConfig
from jaxft.models.decoder import DecoderConfig
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
    by_name: dict[tuple[str, int], str] = {}
    for entry in found:
        if by_name.setdefault((entry.name, entry.part), entry.path) != entry.path:
            raise InputError(
                f"{by_name[entry.name, entry.part]!r} and {entry.path!r} would both be named {entry.name!r}"
            )
    return found


class Site(NamedTuple):
    """A module whose weight adapters change.

    Attributes:
        module: its name there.
        parts: the weight here, or its pieces in their order, which lie along the outputs of the weight there.
    """

    module: str
    parts: tuple[Entry, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The input axes here: [in], or [height, width, in] of a convolution."""
        return self.parts[0].shape[:-1]

    @property
    def outputs(self) -> int:
        """All outputs of the module."""
        return sum(entry.shape[-1] for entry in self.parts)

    @property
    def embedding(self) -> bool:
        """Whether the weight is a table that is indexed and not multiplied."""
        return self.parts[0].path.rpartition("/")[2] == "embedding"

    @property
    def conv1d(self) -> bool:
        """Whether it is one of Hugging Face's Conv1D, a linear layer whose weight is [in, out] as here."""
        entry = self.parts[0]
        return entry.order is None and len(entry.shape) == 2 and entry.path.endswith("/kernel")

    def cuts(self) -> list[tuple[Entry, slice]]:
        """Every part with its outputs."""
        found, start = [], 0
        for entry in self.parts:
            found.append((entry, slice(start, start + entry.shape[-1])))
            start += entry.shape[-1]
        return found


def sites(table: Sequence[Entry], config: ModelConfig | None) -> dict[str, Site]:
    """Every module that an adapter may change, by its name: linear layers, tables and convolutions."""
    found: dict[str, list[Entry]] = {}
    for entry in table:
        is_weight = config is None or entry.name.endswith(".weight")
        if len(entry.shape) in (2, 4) and is_weight and "depthwise" not in entry.path:
            found.setdefault(module_of(entry), []).append(entry)
    return {module: Site(module, tuple(sorted(parts, key=lambda entry: entry.part))) for module, parts in found.items()}


def module_of(entry: Entry) -> str:
    """The module an array is a parameter of."""
    return entry.name.removesuffix(".weight").removesuffix(".bias")


def check_tied(paths: Sequence[str], config: ModelConfig | None) -> None:
    """Refuses an adapted table of words that the model also reads elsewhere, where PEFT leaves it as it was.

    Args:
        paths: of what is adapted or trained.
        config: of the model.
    """
    tied = {
        "t5": "embeddings/word/embedding",
        "encoder-decoder": "decoder_embeddings/word/embedding",
    }.get("" if config is None else config.family)
    if isinstance(config, DecoderConfig) and config.tied and config.task == "lm":
        tied = "embeddings/word/embedding"
    if tied in paths:
        raise InputError(
            f"{tied!r} is read in several places of this model (tied embeddings), of which PEFT changes one: leave it "
            "out of the selector, or merge the adapter and write the whole model with jaxft.save_model"
        )


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
    return {2: (1, 0), 4: (2, 3, 1, 0)}.get(len(shape)) if last == "kernel" else None


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
