"""Adapters written as Hugging Face PEFT reads them."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxft.errors import InputError
from jaxft.files import atomic_directory
from jaxft.models.config import ModelConfig
from jaxft.models.families import has_class
from jaxft.models.keys import Entry
from jaxft.train.peft_names import family_config, is_embedding, module_of, named_entries
from jaxft.trees import fingerprint, leaf_paths
from jaxft.types import Adaptation, Delta, Frozen
from jaxft.weights import LowRank, is_structured

PREFIX = "base_model.model."
CONFIG, WEIGHTS, NOTES = "adapter_config.json", "adapter_model.safetensors", "jaxft.json"
_PEFT_VERSION = "0.21.2"


def save_adapter(
    directory: str | os.PathLike[str],
    adaptation: Adaptation,
    frozen: Frozen,
    delta: Delta,
    *,
    config: Any = None,
    base: str | None = None,
) -> None:
    """Writes what an adaptation learned as a Hugging Face PEFT adapter, all or nothing.

    Low-rank factors are stored as such; modules that were trained whole, such as the head, are stored whole
    (``modules_to_save``), and the head is stored even if it did not learn, for a file without it would start from a
    random one. The scale of each factor is stored exactly: rank-stabilised ones as the plain α that gives it.

    A classifier with ``pooling="cls"`` is an adapter of ``BertForSequenceClassification``. Hugging Face has no class
    for a head on the mean: then it is an adapter of ``BertModel``, which gives PEFT the same hidden states, and the
    head's ``classifier.weight`` and ``classifier.bias`` stand in the same file for :func:`load_adapter`.

    A third file, ``jaxft.json``, which PEFT passes over, holds the fingerprint of the base, that is of all arrays that
    are not stored, and which of those stored did not learn.

    Args:
        directory: a new or empty directory.
        adaptation: with at least one low-rank weight.
        frozen: as returned by ``adaptation.init``, or ``frozen.model`` of a step.
        delta: the trained arrays.
        config: ``Model.config`` of a model from ``load_model``, for the names of Hugging Face. None for params of
            other libraries: paths joined by dots are the names.
        base: name or directory of the base model, for ``base_model_name_or_path``.

    Raises:
        InputError: something that learned cannot be expressed exactly in the format, and it is named; the config is
            another model's, or left out for one from ``load_model``; or the directory is a file, holds files or cannot
            be written to.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxft.adapt import lora
        >>> from jaxft.train import load_adapter, save_adapter
        >>> params, directory = {"query": {"kernel": jnp.ones((6, 4))}}, tempfile.mkdtemp()
        >>> adaptation = lora("query/kernel", rank=2)
        >>> frozen, delta = adaptation.init(jax.random.key(0), params)
        >>> save_adapter(directory, adaptation, frozen, delta)
        >>> _, _, loaded = load_adapter(directory, params)
        >>> bool((loaded["query"]["kernel"]["a"] == delta["query"]["kernel"]["a"]).all())
        True

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
    """
    bound = leaf_paths(adaptation.bind(frozen, delta), is_leaf=is_structured)
    learned = _learned(delta, bound)
    shapes = {path: tuple(leaf.shape) for path, leaf in bound.items()}
    family = family_config(shapes, config)
    table = named_entries(shapes, family)
    factors = {entry: bound[entry.path] for entry in table if is_structured(bound[entry.path])}
    for entry, leaf in factors.items():
        _refuse_inexpressible(entry.path, leaf)
    if not factors:
        raise InputError(
            "an adapter needs at least one low-rank weight, but the adaptation has none; merge it and write the whole "
            "model with jaxft.save_model"
        )
    kept = _kept_whole(table, factors, learned, family)
    tensors = {f"{PREFIX}{name}": array for name, array in _tensors(factors, kept, bound).items()}
    fields = _config_fields(table, factors, kept, family)
    fields |= {"base_model_name_or_path": base, "lora_dropout": _dropout(adaptation, frozen, delta)}
    unchanged = {path: _base(leaf) for path, leaf in bound.items() if path not in kept.paths}
    notes = {"base": fingerprint(unchanged), "frozen": sorted(kept.paths - learned)}
    _write(directory, tensors, {CONFIG: fields, NOTES: notes})


class _Kept(NamedTuple):
    """What is stored as it is: whole modules, and biases of low-rank ones."""

    modules: list[str]
    entries: list[Entry]
    biases: list[Entry]

    @property
    def paths(self) -> set[str]:
        return {entry.path for entry in (*self.entries, *self.biases)}


def _learned(delta: Delta, bound: dict[str, Any]) -> set[str]:
    """The paths of the params that learned; every array of the delta belongs to one."""
    found = set()
    for name in leaf_paths(delta):
        path, _, part = name.rpartition("/")
        rest = name
        while rest and rest not in bound and not (rest.rpartition("/")[0] in bound and part in ("a", "b")):
            head, _, rest = rest.partition("/")
            rest = rest if head.isdigit() else ""  # the index of a link of a chain
        path = rest if rest in bound else rest.rpartition("/")[0]
        if not rest or is_structured(bound[path]) != (path != rest):
            raise InputError(
                f"the adaptation learned {name!r}, which is neither a weight nor a low-rank factor of one: "
                "the PEFT format cannot hold it; merge it and write the whole model with jaxft.save_model"
            )
        found.add(path)
    return found


def _base(leaf: Any) -> Any:
    return leaf.base if isinstance(leaf, LowRank) else leaf


def _refuse_inexpressible(path: str, leaf: Any) -> None:
    advice = "the PEFT format cannot hold it; merge it and write the whole model with jaxft.save_model"
    if not isinstance(leaf, LowRank):
        raise InputError(f"{path!r} is a {type(leaf).__name__} weight: {advice}")
    if is_structured(leaf.base):
        raise InputError(f"{path!r} is a low-rank branch on a {type(leaf.base).__name__} weight: {advice}")
    if len(leaf.shape) != 2 or leaf.a.shape[1] != 1 or leaf.b.shape[0] != 1:
        raise InputError(f"{path!r} has shape {list(leaf.shape)}, not [in, out] of a linear layer: {advice}")


def _kept_whole(
    table: list[Entry], factors: dict[Entry, LowRank], learned: set[str], family: ModelConfig | None
) -> _Kept:
    low_rank = {module_of(entry) for entry in factors}
    plain = [entry for entry in table if entry not in factors]
    biases = [entry for entry in plain if module_of(entry) in low_rank]
    modules = {module_of(entry) for entry in plain if entry.path in learned and entry not in biases}
    if family is not None and family.num_labels:
        # PEFT keeps a head under its one name in the class, whatever layers it has.
        heads = _heads(table) - {_outermost(module) for module in low_rank}
        modules = {module for module in modules if _outermost(module) not in heads} | heads
    whole = [entry for entry in plain if any(f"{module_of(entry)}.".startswith(f"{module}.") for module in modules)]
    return _Kept(sorted(modules), whole, biases if any(entry.path in learned for entry in biases) else [])


def _tensors(factors: dict[Entry, LowRank], kept: _Kept, bound: dict[str, Any]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for entry, leaf in factors.items():
        a, b = np.asarray(leaf.a)[:, 0, :].T, np.asarray(leaf.b)[0]
        name = "{}.lora_embedding_{}" if is_embedding(entry) else "{}.lora_{}.weight"
        found |= {name.format(module_of(entry), "A"): a, name.format(module_of(entry), "B"): b}
    for entry in (*kept.entries, *kept.biases):
        array = np.asarray(bound[entry.path])
        name = f"{module_of(entry)}.base_layer.bias" if entry in kept.biases else entry.name
        found[name] = array.T if entry.transpose else array
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def _config_fields(
    table: list[Entry], factors: dict[Entry, LowRank], kept: _Kept, family: ModelConfig | None
) -> dict[str, Any]:
    ranks = {module_of(entry): leaf.rank for entry, leaf in factors.items()}
    alphas = {module_of(entry): _alpha(leaf) for entry, leaf in factors.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    heads = set() if family is None or has_class(family) else _heads(table)
    modules = [module for module in kept.modules if _outermost(module) not in heads]
    return {
        "peft_type": "LORA",
        "task_type": None if family is None else _task_type(family),
        "inference_mode": True,
        "target_modules": _shortest(set(ranks), table, family),
        "modules_to_save": modules or None,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: r for module, r in ranks.items() if r != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
        "bias": "lora_only" if kept.biases else "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
        "peft_version": _PEFT_VERSION,
    }


_TASK_TYPES = {
    "classify": "SEQ_CLS",
    "regress": "SEQ_CLS",
    "tag": "TOKEN_CLS",
    "spans": "QUESTION_ANS",
    "lm": "CAUSAL_LM",
    "seq2seq": "SEQ_2_SEQ_LM",
}


def _task_type(family: ModelConfig) -> str:
    return _TASK_TYPES[family.task] if has_class(family) else "FEATURE_EXTRACTION"


def _heads(table: list[Entry]) -> set[str]:
    return {_outermost(entry.name) for entry in table if entry.bare}


def _outermost(module: str) -> str:
    return module.split(".")[0]


def _alpha(leaf: LowRank) -> float | int:
    """α = s·r, as the shortest number that gives the very same float32 s back."""
    exact = float(np.asarray(leaf.scale).reshape(-1)[0]) * leaf.rank
    short = float(f"{exact:.6g}")
    value = short if np.float32(short / leaf.rank) == np.float32(exact / leaf.rank) else exact
    return int(value) if value.is_integer() else value


def _shortest(targets: set[str], table: list[Entry], family: ModelConfig | None) -> list[str]:
    """The last keys of the modules' names if they select the same modules of Hugging Face's class, else whole names."""
    every = table
    if family is not None and not has_class(family):
        shapes = {entry.path: entry.shape for entry in table}
        every = table + named_entries(shapes, replace(family, pooling="cls", num_labels=0, task="features"))
    modules = {module_of(entry) for entry in every}
    for depth in (1, 2, 3):
        ends = {".".join(module.split(".")[-depth:]) for module in targets}
        if {module for module in modules if any(f".{module}".endswith(f".{end}") for end in ends)} == targets:
            return sorted(ends)
    return sorted(targets)


def _dropout(adaptation: Adaptation, frozen: Frozen, delta: Delta) -> float:
    """The rate on the low-rank branches, which shows only when there is randomness."""
    bound = leaf_paths(adaptation.bind(frozen, delta, key=jax.random.key(0)), is_leaf=is_structured)
    rates = {
        path: 0.0 if leaf.rate is None else float(f"{np.asarray(leaf.rate).reshape(-1)[0]:.6g}")
        for path, leaf in bound.items()
        if isinstance(leaf, LowRank)
    }
    if len(set(rates.values())) > 1:
        low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
        raise InputError(
            f"{low!r} has dropout {rates[low]} on its low-rank branch and {high!r} {rates[high]}: the PEFT format "
            "holds one rate for all; build the adaptation with one"
        )
    return next(iter(rates.values()))


def _write(directory: str | os.PathLike[str], tensors: dict[str, np.ndarray], texts: dict[str, dict[str, Any]]) -> None:
    from safetensors.numpy import save_file

    with atomic_directory(directory) as temporary:
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        for name, fields in texts.items():
            text = json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False)
            (temporary / name).write_text(text + "\n", encoding="utf-8")
