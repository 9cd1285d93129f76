"""Adapters read, ours and those of Hugging Face PEFT."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt import chain, lora, tune
from jaxft.errors import InputError
from jaxft.train.peft_names import family_config, named_entries
from jaxft.train.peft_read import Stored, check_targets, read_fields, read_notes, read_tensors, sort_tensors
from jaxft.train.peft_save import CONFIG
from jaxft.trees import Selection, fingerprint, leaf_paths, map_with_path, replace
from jaxft.types import Adaptation, Array, Delta, Frozen, Params


def load_adapter(
    directory: str | os.PathLike[str], params: Params, *, config: Any = None
) -> tuple[Adaptation, Frozen, Delta]:
    """Reads a LoRA adapter, written by :func:`save_adapter` or by Hugging Face PEFT, onto the params of its base.

    What comes back is ``chain(lora(...), tune(...))`` with the stored values in the delta, or ``lora(...)`` alone when
    nothing else learned: bind it, go on training it, or merge it.

    Args:
        directory: with ``adapter_config.json`` and ``adapter_model.safetensors``; an adapter of ours also has
            ``jaxft.json``, without which the base is not checked.
        params: of the base model, with a head of the adapter's number of labels.
        config: ``Model.config``, as in :func:`save_adapter`.

    Raises:
        InputError: a missing or damaged file, another kind of adapter than LoRA, an option of it that is not supported,
            modules that the params lack, arrays of another shape, or params with another fingerprint than the base the
            adapter was trained on.

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
    tensors, notes = read_tensors(place), read_notes(place)
    leaves = leaf_paths(params)
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    table = named_entries(shapes, family_config(shapes, config))
    stored = sort_tensors(tensors, table)
    check_targets(fields, table, stored)
    unchanged = fingerprint({path: leaf for path, leaf in leaves.items() if path not in stored.whole})
    if notes["base"] not in (None, unchanged):
        raise InputError(
            f"the adapter in {place} was trained on a base model with fingerprint {notes['base']}, but these params "
            f"have {unchanged}: load the base model it was trained on"
        )
    still = {path: array.astype(leaves[path].dtype) for path, array in stored.whole.items() if path in notes["frozen"]}
    adaptation = _adaptation(fields, stored, set(stored.whole) - set(still))
    frozen, delta = adaptation.init(jax.random.key(0), replace(params, still) if still else params)
    chained = isinstance(delta, tuple)
    return adaptation, frozen, map_with_path(lambda path, leaf: _value(path, leaf, stored, chained), delta)


def _adaptation(fields: Mapping[str, Any], stored: Stored, trained: set[str]) -> Adaptation:
    ranks, alphas = {}, {}
    for path, factor in stored.factors.items():
        ranks[path] = factor.a.shape[1]
        alphas[path] = _pattern(fields, "alpha_pattern", factor.module, "lora_alpha")
        expected = _pattern(fields, "rank_pattern", factor.module, "r")
        if expected != ranks[path]:
            raise InputError(
                f"{factor.module} has rank {ranks[path]} in the adapter's file but {expected!r} in its {CONFIG}: "
                "write or fetch it again"
            )
    dropout = fields.get("lora_dropout") or 0.0
    if not isinstance(dropout, (int, float)):
        raise InputError(f"{CONFIG} must give lora_dropout as a number; got {dropout!r}")
    low_rank = lora(
        _exactly(set(ranks), "the low-rank weights of the adapter"),
        rank=_single(ranks),
        alpha=_single(alphas),
        rank_stabilized=bool(fields.get("use_rslora")),
        dropout=dropout,
    )
    return chain(low_rank, tune(_exactly(trained, "the trained weights of the adapter"))) if trained else low_rank


def _pattern(fields: Mapping[str, Any], patterns: str, module: str, default: str) -> Any:
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


def _single(values: dict[str, Any]) -> Any:
    first = next(iter(values.values()))
    return first if all(value == first for value in values.values()) else values


def _exactly(paths: set[str], description: str) -> Selection:
    return Selection(lambda params: map_with_path(lambda path, _: path in paths, params), description)


def _value(path: str, leaf: Array, stored: Stored, chained: bool) -> Array:
    """The stored array for a place of the delta, in the wider of the two types so that no bit is lost."""
    inner = path.partition("/")[2] if chained else path
    owner, _, part = inner.rpartition("/")
    found = stored.whole.get(inner)
    if found is None:
        found = getattr(stored.factors[owner], part)
    return jnp.asarray(found, jnp.promote_types(found.dtype, leaf.dtype))
