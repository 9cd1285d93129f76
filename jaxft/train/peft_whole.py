"""Modules that an adapter's file holds as they are: heads, and what was trained whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.models.config import ModelConfig
from jaxft.models.families import has_class
from jaxft.models.keys import Entry, write_arrays
from jaxft.train.peft_names import module_of
from jaxft.types import Array
from jaxft.weights import materialise


class Kept(NamedTuple):
    """What is stored as it is: whole modules, and biases of adapted ones."""

    modules: list[str]
    entries: list[Entry]
    biases: list[Entry]

    @property
    def paths(self) -> set[str]:
        """Where the arrays are here."""
        return {entry.path for entry in (*self.entries, *self.biases)}

    def tensors(self, bound: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The arrays by name."""
        biases = [entry._replace(name=f"{module_of(entry)}.base_layer.bias") for entry in self.biases]
        found = [*self.entries, *biases]
        arrays = {entry.path: np.asarray(materialise(bound[entry.path])) for entry in found}
        return write_arrays(found, arrays, "", dtype=None)

    def names(self, config: ModelConfig | None) -> list[str] | None:
        """``modules_to_save``: without a head that Hugging Face's class does not have."""
        absent = set() if config is None or has_class(config) else heads(self.entries)
        return [module for module in self.modules if outermost(module) not in absent] or None


def kept_whole(table: Sequence[Entry], adapted: set[str], learned: set[str], config: ModelConfig | None) -> Kept:
    """What to store beside adapted modules.

    Args:
        table: every array.
        adapted: modules.
        learned: paths of arrays that learned.
        config: of the model.
    """
    plain = [entry for entry in table if not _is_weight(entry, adapted)]
    biases = [entry for entry in plain if module_of(entry) in adapted]
    if torn := next((entry for entry in table if _is_weight(entry, adapted) and entry.path in learned), None):
        raise InputError(
            f"{torn.path!r} is one of {torn.parts} parts of {torn.name!r} in Hugging Face's files: it was trained "
            "whole and another part adapted, which the PEFT format cannot hold; merge it and write the whole model "
            "with jaxft.save_model"
        )
    modules = {module_of(entry) for entry in plain if entry.path in learned and entry not in biases}
    if config is not None and config.num_labels:
        # PEFT keeps a head under its one name in the class, whatever layers it has.
        whole_heads = heads(table) - {outermost(module) for module in adapted}
        modules = {module for module in modules if outermost(module) not in whole_heads} | whole_heads
    whole = [entry for entry in plain if any(f"{module_of(entry)}.".startswith(f"{module}.") for module in modules)]
    return Kept(sorted(modules), whole, biases if any(entry.path in learned for entry in biases) else [])


def _is_weight(entry: Entry, adapted: set[str]) -> bool:
    return module_of(entry) in adapted and not entry.name.endswith(".bias")


def heads(table: Sequence[Entry]) -> set[str]:
    """The names of heads in Hugging Face's class."""
    return {outermost(entry.name) for entry in table if entry.bare}


def outermost(module: str) -> str:
    """The first key of a name."""
    return module.split(".")[0]


def read_whole(key: str, name: str, array: Array, entries: Sequence[Entry]) -> dict[str, Array]:
    """An array of the file by the paths of its parts here."""
    whole = np.asarray(array)
    pieces = {entry.path: entry.read(whole) for entry in entries}
    found = {path: jnp.asarray(piece) for path, piece in pieces.items() if piece is not None}
    if len(found) < len(pieces):
        head = ".classifier." in f".{name}" or ".score." in f".{name}"
        advice = "load the model with the adapter's num_labels" if head else "load its base model"
        raise InputError(
            f"{key} is {list(array.shape)} in the adapter but {list(entries[0].there())} in these params: {advice}"
        )
    return found
