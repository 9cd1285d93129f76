"""Adapters written as Hugging Face PEFT reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxft.adapt.narrow import release_links
from jaxft.errors import InputError
from jaxft.models.config import ImageConfig, ModelConfig
from jaxft.models.families import has_class
from jaxft.models.keys import Entry
from jaxft.train.peft_fields import shortest
from jaxft.train.peft_files import write_files
from jaxft.train.peft_ia3 import write_ia3
from jaxft.train.peft_learned import Learned, kinds, unhashed, what_learned
from jaxft.train.peft_lora import write_lora
from jaxft.train.peft_names import check_tied, family_config, named_entries, sites
from jaxft.train.peft_prompts import write_prompts
from jaxft.train.peft_sites import Written, places_of
from jaxft.train.peft_whole import Kept, kept_whole
from jaxft.trees import fingerprint, leaf_paths
from jaxft.types import Adaptation, Delta, Frozen
from jaxft.weights import LowRank, Scaled, is_structured

PREFIX, PROMPT_PREFIX = "base_model.model.", "base_model."
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

    | learned by | written as |
    |---|---|
    | `lora`, of linear layers, convolutions and embeddings | LoRA |
    | `dora` | LoRA with `use_dora` |
    | `ia3` | IA3 |
    | `prompt` | prompt tuning |
    | `prefix` | prefix tuning, of decoders |
    | `pissa`, `olora` | LoRA of rank 2r on the original base |
    | `lora_fa`, `vera`, `loha`, `lokr`, `adalora` | LoRA of the rank that their product has |

    Those of the last two rows come back as plain LoRA: what they compute is kept, how they learn is not.

    Modules that were trained whole, such as the head, are stored whole (``modules_to_save``), and the head is stored
    even if it did not learn, for a file without it would start from a random one. The scale of each factor is stored
    exactly: rank-stabilised ones as the plain α that gives it. Where Hugging Face has query, key and value in one
    module (GPT), each has ranks of its own in that module, or all share A when theirs are equal. A quantised base is
    not stored.

    A classifier with ``pooling="cls"`` is an adapter of ``BertForSequenceClassification``. Hugging Face has no class
    for a head on the mean: then it is an adapter of ``BertModel``, which gives PEFT the same hidden states, and the
    head's ``classifier.weight`` and ``classifier.bias`` stand in the same file for :func:`load_adapter`.

    A third file, ``jaxft.json``, which PEFT passes over, holds the fingerprint of the base, that is of all arrays that
    are not stored, quantised or changed, which of those stored did not learn, and the labels in the order of the head.

    Args:
        directory: a new or empty directory.
        adaptation: of one of the methods above, alone or in a chain with others that train arrays whole;
            narrowed ones are written with what they hold.
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
        Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024.
        Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", 2022.
        Lester et al., "The Power of Scale for Parameter-Efficient Prompt Tuning", 2021.
        Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", 2021.
    """
    frozen, delta = release_links(frozen, delta)  # what a narrowed adaptation holds has learned too
    learned = what_learned(adaptation, frozen, delta)
    kind = kinds(learned)
    shapes = {path: tuple(leaf.shape) for path, leaf in learned.bound.items()}
    family = family_config(shapes, config)
    check_tied([*learned.parts, *learned.whole], family)
    table = named_entries(shapes, family)
    adapted: set[str] = set()
    if learned.added:
        written, prefix = write_prompts(learned.added, family), PROMPT_PREFIX
    else:
        written, adapted = _at_weights(kind, learned, table, family)
        prefix = PREFIX
    kept = kept_whole(table, adapted, learned.whole, family)
    tensors = {name: np.asarray(array) for name, array in written.tensors.items()}
    tensors |= {f"{prefix}{name}": array for name, array in kept.tensors(learned.bound).items()}
    if kind in ("lora", "dora"):
        written.fields["lora_dropout"] = _dropout(adaptation, frozen, delta)
        written.fields["bias"] = "lora_only" if kept.biases else "none"
    fields = written.fields | {
        "task_type": None if family is None else _task_type(family),
        "inference_mode": True,
        "modules_to_save": kept.names(family),
        "base_model_name_or_path": base,
        "peft_version": _PEFT_VERSION,
    }
    names = {"labels": list(family.labels)} if family is not None and family.labels else {}
    write_files(directory, tensors, fields, written.notes | _notes(learned, kept) | names)


def _at_weights(
    kind: str, learned: Learned, table: list[Entry], family: ModelConfig | None
) -> tuple[Written, set[str]]:
    """What stands at adapted weights, and their modules."""
    places = sites(table, family)
    adapted = places_of({path: leaf for path, leaf in learned.bound.items() if path in learned.parts}, places)
    if kind == "ia3":
        written = write_ia3(adapted, learned.bound, learned.base, places)
        written.fields["peft_type"] = "IA3"
    else:
        magnitudes = {path: parts["m"] for path, parts in learned.parts.items()} if kind == "dora" else {}
        written = write_lora(adapted, learned.bound, magnitudes, places)
        written.fields["peft_type"] = "LORA"
    into = set(written.fields.get("feedforward_modules", ()))
    outside = adapted.keys() - into
    names, others = _shortest(into, table, family), _shortest(outside, table, family)
    if any(module.endswith(name) for module in outside for name in names):  # as PEFT compares them
        names = sorted(into)
    written.fields["target_modules"] = sorted({*names, *others})
    if kind == "ia3":
        written.fields["feedforward_modules"] = names
    tensors = {f"{PREFIX}{name}": array for name, array in written.tensors.items()}
    return written._replace(tensors=tensors), set(adapted)


def _notes(learned: Learned, kept: Kept) -> dict[str, Any]:
    out = unhashed(learned)
    unchanged = {
        path: leaf for path, leaf in learned.base.items() if path not in kept.paths and not is_structured(leaf)
    }
    notes = {"base": fingerprint(unchanged), "frozen": sorted(kept.paths - learned.whole)}
    return notes | ({"unchecked": out} if out else {})


_TASK_TYPES = {
    "classify": "SEQ_CLS",
    "regress": "SEQ_CLS",
    "tag": "TOKEN_CLS",
    "spans": "QUESTION_ANS",
    "lm": "CAUSAL_LM",
    "seq2seq": "SEQ_2_SEQ_LM",
}


def _task_type(family: ModelConfig) -> str | None:
    if isinstance(family, ImageConfig):
        return None  # those of PEFT read tokens
    return _TASK_TYPES[family.task] if has_class(family) else "FEATURE_EXTRACTION"


def _shortest(targets: set[str], table: Iterable[Entry], family: ModelConfig | None) -> list[str]:
    """Names that select these modules of Hugging Face's class and no others."""
    every = list(table)
    if family is not None and not has_class(family):
        shapes = {entry.path: entry.shape for entry in every}
        every += named_entries(shapes, replace(family, pooling="cls", num_labels=0, task="features"))
    return shortest(targets, {entry.name.rpartition(".")[0] or entry.name for entry in every} | targets)


def _dropout(adaptation: Adaptation, frozen: Frozen, delta: Delta) -> float:
    """The rate on the low-rank branches, which shows only when there is randomness."""
    bound = leaf_paths(adaptation.bind(frozen, delta, key=jax.random.key(0)), is_leaf=is_structured)
    branches = {path: leaf.base if isinstance(leaf, Scaled) else leaf for path, leaf in bound.items()}
    rates = {
        path: 0.0 if leaf.rate is None else float(f"{np.asarray(leaf.rate).reshape(-1)[0]:.6g}")
        for path, leaf in branches.items()
        if isinstance(leaf, LowRank)
    }
    if len(set(rates.values())) > 1:
        low, high = min(rates, key=rates.__getitem__), max(rates, key=rates.__getitem__)
        raise InputError(
            f"{low!r} has dropout {rates[low]} on its low-rank branch and {high!r} {rates[high]}: the PEFT format "
            "holds one rate for all; build the adaptation with one"
        )
    return next(iter(rates.values()))
