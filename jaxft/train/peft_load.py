"""Adapters read, ours and those of Hugging Face PEFT."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxft.adapt import chain, dora, ia3, lora, prefix, prompt, tune
from jaxft.errors import InputError
from jaxft.train.peft_fields import check_fields
from jaxft.train.peft_files import CONFIG, read_fields, read_notes, read_tensors
from jaxft.train.peft_ia3 import read_ia3
from jaxft.train.peft_lora import read_lora
from jaxft.train.peft_names import check_tied, family_config, named_entries, sites
from jaxft.train.peft_prompts import KEY, read_prompts
from jaxft.train.peft_save import PREFIX, PROMPT_PREFIX
from jaxft.train.peft_sites import Loaded, Stored, check_targets, sort_tensors
from jaxft.trees import Selection, fingerprint, leaf_paths, map_with_path, replace
from jaxft.types import Adaptation, Array, Delta, Frozen, Params
from jaxft.weights import is_structured


def load_adapter(
    directory: str | os.PathLike[str], params: Params, *, config: Any = None
) -> tuple[Adaptation, Frozen, Delta]:
    """Reads an adapter, written by :func:`save_adapter` or by Hugging Face PEFT, onto the params of its base.

    What comes back is `lora`, `dora`, `ia3`, `prompt` or `prefix`, or ``chain`` of it and ``tune(...)`` when something
    else learned, with the stored values in the delta: bind it, go on training it, or merge it. Where one module of
    PEFT's is several weights here (GPT's query, key and value), each gets the factor A that they share. What P-tuning
    and a prefix with a projection compute is stored, and comes back as `prompt` and `prefix`.

    Args:
        directory: with ``adapter_config.json`` and ``adapter_model.safetensors``; an adapter of ours also has
            ``jaxft.json``, without which the base is not checked.
        params: of the base model, with a head of the adapter's number of labels; weights may be quantised.
        config: ``Model.config``, as in :func:`save_adapter`.

    Raises:
        InputError: a missing or damaged file, a kind of adapter or a field of its configuration that is not supported,
            modules that the params lack, arrays of another shape, params with another fingerprint than the base the
            adapter was trained on, or a model whose labels are those of the adapter in another order.

    Example:
        >>> import tempfile
        >>> from jaxft.train import save_adapter
        >>> params, directory = {"query": {"kernel": jnp.ones((6, 4))}}, tempfile.mkdtemp()
        >>> adaptation = lora("query/kernel", rank=2, alpha=1.0)
        >>> save_adapter(directory, adaptation, *adaptation.init(jax.random.key(0), params))
        >>> adaptation, frozen, delta = load_adapter(directory, params)
        >>> adaptation.bind(frozen, delta)["query"]["kernel"].rank
        2

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
        Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023.
    """
    place = Path(directory)
    fields = read_fields(place)
    kind = check_fields(fields)
    tensors, notes = read_tensors(place), read_notes(place)
    leaves = leaf_paths(params, is_leaf=is_structured)
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    family = family_config(shapes, config)
    table = named_entries(shapes, family)
    _check_labels(place, notes, family)
    found = _read(kind, fields, notes, tensors, _Base(shapes, table, sites(table, family)))
    whole, base = found.stored.whole, found.stored.base
    check_tied([*found.values, *whole], family)
    _check_base(place, notes, {path: leaf for path, leaf in leaves.items() if path not in whole | base})
    still = {path: array for path, array in whole.items() if path in notes["frozen"]} | base
    still = {path: jnp.asarray(array, leaves[path].dtype) for path, array in still.items()}
    adaptation, trained = found.adaptation, set(whole) - set(still)
    if trained:
        adaptation = chain(adaptation, tune(_exactly(trained, "the trained weights of the adapter")))
    frozen, delta = adaptation.init(jax.random.key(0), replace(params, still) if still else params)
    values = {f"{path}/{part}": array for path, parts in found.values.items() for part, array in parts.items()}
    values |= {path: jnp.asarray(array) for path, array in whole.items()} | found.added
    return adaptation, frozen, map_with_path(lambda path, leaf: _value(path, leaf, values, bool(trained)), delta)


class _Base(NamedTuple):
    """The base model: shapes by path, arrays by name, and modules."""

    shapes: dict[str, tuple[int, ...]]
    table: list[Any]
    places: dict[str, Any]


class _Read(NamedTuple):
    """An adapter: its adaptation, trained parts by path, arrays it adds, and what the file holds beside them."""

    adaptation: Adaptation
    values: dict[str, dict[str, Array]]
    added: dict[str, Array]
    stored: Stored


def _read(
    kind: str, fields: Mapping[str, Any], notes: Mapping[str, Any], tensors: dict[str, Array], base: _Base
) -> _Read:
    if kind in ("LORA", "IA3"):
        stored = sort_tensors(tensors, PREFIX, base.table, base.places)
        check_targets(fields, base.table, base.places, stored)
        read, adaptation = (read_ia3, _ia3) if kind == "IA3" else (read_lora, _lora)
        loaded = read(fields, notes, stored.parts, base.places)
        return _Read(adaptation(loaded, fields), loaded.parts, {}, stored)
    if KEY not in tensors:
        raise InputError(f"the adapter's file lacks {KEY}: write or fetch it again")
    array = tensors.pop(KEY)
    stored = sort_tensors(tensors, PROMPT_PREFIX, base.table, {})
    added = read_prompts(kind, fields, array, base.shapes)
    method = prefix if kind == "PREFIX_TUNING" else prompt
    return _Read(method(length=array.shape[0]), {}, added, stored)


def _lora(loaded: Loaded, fields: Mapping[str, Any]) -> Adaptation:
    dropout = fields.get("lora_dropout") or 0.0
    if not isinstance(dropout, (int, float)):
        raise InputError(f"{CONFIG} must give lora_dropout as a number; got {dropout!r}")
    method = dora if fields.get("use_dora") else lora
    return method(
        _exactly(set(loaded.parts), "the low-rank weights of the adapter"),
        rank=_single(loaded.options["rank"]),
        alpha=_single(loaded.options["alpha"]),
        rank_stabilized=bool(fields.get("use_rslora")),
        dropout=dropout,
    )


def _ia3(loaded: Loaded, fields: Mapping[str, Any]) -> Adaptation:
    del fields
    inputs = set(loaded.options["inputs"])
    outputs = set(loaded.parts) - inputs
    return ia3(
        _exactly(outputs, "the weights whose outputs the adapter scales"),
        inputs=_exactly(inputs, "the weights whose inputs the adapter scales") if inputs else None,
    )


def _check_base(place: Path, notes: Mapping[str, Any], leaves: Mapping[str, Any]) -> None:
    unchecked = notes.get("unchecked", [])
    found = fingerprint({path: leaf for path, leaf in leaves.items() if path not in unchecked})
    if notes["base"] not in (None, found):
        raise InputError(
            f"the adapter in {place} was trained on a base model with fingerprint {notes['base']}, but these params "
            f"have {found}: load the base model it was trained on"
        )


def _check_labels(place: Path, notes: Mapping[str, Any], family: Any) -> None:
    """The same names in another order would be taken for one another."""
    stored, ours = notes.get("labels", []), [] if family is None else list(family.labels)
    if stored != ours and sorted(stored) == sorted(ours):
        raise InputError(
            f"the adapter in {place} has the labels {stored}, in that order, but the model has {ours}: load it with "
            f"labels={stored}"
        )


def _single(values: dict[str, Any]) -> Any:
    first = next(iter(values.values()))
    return first if all(value == first for value in values.values()) else values


def _exactly(paths: set[str], description: str) -> Selection:
    return Selection(
        lambda params: map_with_path(lambda path, _: path in paths, params, is_leaf=is_structured), description
    )


def _value(path: str, leaf: Array, values: Mapping[str, Array], chained: bool) -> Array:
    """The stored array for a place of the delta, in the wider of the two types so that no bit is lost."""
    found = jnp.asarray(values[path.partition("/")[2] if chained else path])
    return jnp.asarray(found, jnp.promote_types(found.dtype, leaf.dtype)).reshape(leaf.shape)
