"""Pretrained models as a pure function and its parameters, from and to Hugging Face's layout."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.models.config import WHOLE, ModelConfig, Request
from jaxft.models.convolution import ConvolutionalConfig
from jaxft.models.families import FAMILIES, entries, family_of
from jaxft.models.family import config_from_hf, fits_head, saved_labels, saved_pooling
from jaxft.models.hub import check_tied, match, write
from jaxft.models.inputs import check_inputs
from jaxft.models.preprocessing import read_preprocessing
from jaxft.models.pretrained import Pretrained, find_pretrained
from jaxft.models.sentence import sentence_pooling
from jaxft.models.slots import taken
from jaxft.trees import leaf_paths
from jaxft.types import Key, Model, Outputs, Params
from jaxft.weights import lift

logger = logging.getLogger(__name__)
_NUMBERED = re.compile(r"LABEL_\d+")

_SLOTS = re.compile(r"/(bottleneck|parallel|prefix|prompt)(/|$)")


def load_model(
    source: str | os.PathLike[str],
    *,
    task: str,
    num_labels: int | None = None,
    dtype: Any = None,
    pooling: str | None = None,
    remat: bool = False,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    update_stats: bool = False,
    dropout: float | None = None,
) -> Model:
    """A pretrained model with the head of a task.

    A head the files hold is used when it was trained for the same task, pooling and number of labels; otherwise the
    head starts fresh, and the log says so. With ``pooling="cls"`` the pooler starts from the files: the one of
    "minilm" was never trained, so prefer the mean there. Where nothing reads the pooler of the files, as with
    ``pooling="mean"`` or in tagging, it is left out, and :func:`save_model` writes none.

    Args:
        source: an asset ("minilm"), a directory with ``config.json`` and safetensors, a GGUF file of a Llama or a
            directory that holds one, or a hub id ("owner/name").
        task: "classify", "regress", "tag" (a label a token), "spans" (start and end of an answer), "lm" (the next
            token), "seq2seq" or "features" (no head); each family answers some of them.
        num_labels: outputs of the head; None keeps those of the files.
        dtype: type of computation; the params stay float32, and so do the logits.
        pooling: "mean" of the last hidden states, "cls", "first" or "last", as :class:`ModelConfig` says; None is what
            the files say, a head's or those of sentence-transformers, else what the family prefers: "mean" for encoders
            of texts, "last" for decoders.
        remat: recompute each layer in the backward pass in place of storing it.
        labels: a name for each output; the outputs of a head in the files that has these names come in this order.
        seed: of a fresh head.
        update_stats: of a convolutional net: whether training normalises by the batch and moves the running statistics
            of its norms. By default they stay those of the files in training too, so that a head, an adapter or a small
            data set is trained on the very features it is tested on.
        dropout: rate of every dropout in training, in [0, 1); None keeps those of the files. With 0 the activations of
            frozen layers are the same in every epoch, and a study computes them once.

    Raises:
        InputError: an unknown source, unsupported or damaged files, or a request that contradicts them.

    Example:
        >>> model = load_model("minilm", task="classify", labels=["bad", "good"])
        >>> batch = model.tokenizer(["a fine film", "dull"], padding=True, return_tensors="np")
        >>> model.apply(model.params, dict(batch)).logits.shape
        (2, 2)
    """
    found = find_pretrained(source)
    config = _configured(found, Request(task, num_labels, labels, pooling), dtype)
    config = _with_dropout(_with_stats(config, update_stats), dropout)
    raw, family = found.raw, FAMILIES[config.family]
    held = found.arrays(family)
    if task in ("lm", "seq2seq"):
        check_tied(entries(config), held, str(found.path))
    arrays = match(
        entries(config),
        held,
        use_head=fits_head(family, raw, config),
        ignored=family.ignored if task == "seq2seq" else family.ignored + family.decoder_names,
        source=str(found.path),
    )
    params = build_params(config, _in_order(arrays, saved_labels(raw), config.labels), seed)
    return Model(build_apply(config, remat), params, config, found.tokenizer(config))


def describe_model(
    source: str | os.PathLike[str],
    *,
    task: str,
    num_labels: int | None = None,
    dtype: Any = None,
    pooling: str | None = None,
    remat: bool = False,
) -> Model:
    """A pretrained model with shapes in place of its weights, which are not read.

    Args:
        source: as of :func:`load_model`.
        task: likewise, and so for the others.
        num_labels: outputs of the head.
        dtype: type of computation.
        pooling: what the head reads.
        remat: recompute each layer in the backward pass.

    Raises:
        InputError: an unknown source, unsupported files, or a request that contradicts them.

    Example:
        >>> model = describe_model("minilm", task="classify", num_labels=2)
        >>> model.params["head"]["kernel"].shape
        (384, 2)
    """
    found = find_pretrained(source)
    config = _configured(found, Request(task, num_labels, None, pooling), dtype)
    params: dict[str, Any] = {}
    for entry in entries(config):
        *parents, name = entry.path.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = jax.ShapeDtypeStruct(entry.shape, jnp.float32)
    return Model(build_apply(config, remat), params, config, found.tokenizer(config))


def _configured(found: Pretrained, request: Request, dtype: Any) -> ModelConfig:
    """The configuration of a source for what is asked of it."""
    family = family_of(found.raw)
    if request.pooling is None and request.task in WHOLE and saved_pooling(family, found.raw) is None:
        request = request._replace(pooling=sentence_pooling(found.path))
    config = read_preprocessing(found.path, config_from_hf(family, found.raw, request))
    return replace(config, dtype=float_type(dtype).name)


def save_model(model: Model, directory: str | os.PathLike[str]) -> None:
    """Writes a model as a Hugging Face directory, all or nothing.

    With ``pooling="cls"`` a BERT is a ``BertForSequenceClassification``. Hugging Face has no class for a head on the
    mean: then the encoder is a ``BertModel`` there, the head's ``classifier.weight`` and ``classifier.bias`` stand
    beside it in the same file, and the field ``jaxft`` of ``config.json`` says what they read.

    Args:
        model: its params must be plain arrays; merge structured weights first.
        directory: a new or empty directory.

    Raises:
        InputError: the directory is a file, holds files or cannot be written to, or the params are not the model's.
    """
    config = model.config
    if not isinstance(config, ModelConfig):
        raise InputError(f"expected a model from load_model; its config is a {type(config).__name__}")
    leaves = leaf_paths(model.params)
    expected = {entry.path: entry.shape for entry in entries(config)}
    shapes = {path: getattr(leaf, "shape", None) for path, leaf in leaves.items()}
    wrong = sorted(path for path in shapes.keys() | expected.keys() if shapes.get(path) != expected.get(path))
    if added := [path for path in wrong if path not in expected and _SLOTS.search(path)]:
        raise InputError(
            f"Hugging Face's layout has no place for what an adaptation added to the model: {', '.join(added[:8])}"
            f"{', …' if len(added) > 8 else ''}; keep it beside the base model, by jaxft.save_adapter where PEFT knows "
            "the method or in a checkpoint of the run"
        )
    if wrong:
        raise InputError(
            f"the params are not those of the model: {', '.join(wrong[:8])} missing, extra or of another shape; "
            "merge an adaptation before saving"
        )
    write(directory, config, {path: np.asarray(leaf) for path, leaf in leaves.items()}, model.tokenizer)


def _with_stats(config: ModelConfig, update_stats: bool) -> ModelConfig:
    if isinstance(config, ConvolutionalConfig):
        return replace(config, update_stats=update_stats)
    if update_stats:
        raise InputError(f"update_stats is for convolutional nets: a {config.family} has no running statistics")
    return config


def _with_dropout(config: ModelConfig, rate: float | None) -> ModelConfig:
    if rate is None:
        return config
    if not 0 <= rate < 1:
        raise InputError(f"dropout expects a rate in [0, 1), or None for those of the files; got {rate}")
    rates: dict[str, Any] = {name: rate for name in vars(config) if name.endswith("dropout")}
    for name, part in vars(config).items():
        if isinstance(part, ModelConfig):
            rates[name] = _with_dropout(part, rate)
    return replace(config, **rates)


def _in_order(found: dict[str, np.ndarray], saved: Sequence[str], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of the files with the head's outputs in the order the labels are asked for."""
    ours, theirs = ([label.casefold() for label in names] for names in (labels, saved))
    if sorted(ours) != sorted(theirs) or len(set(theirs)) < len(theirs):
        if saved and "head/kernel" in found and not all(map(_NUMBERED.fullmatch, saved)):
            logger.warning(
                "the head of the files names its outputs %s; they are taken in that order for %s",
                ", ".join(saved),
                ", ".join(labels),
            )
        return found
    order = [theirs.index(label) for label in ours]
    return found | {path: array[..., order] for path, array in found.items() if path.startswith("head/")}


def build_params(config: ModelConfig, found: Mapping[str, np.ndarray], seed: int) -> Params:
    """A nested dict of the arrays found; the others start as BERT's do: kernels normal, biases zero."""
    params: dict[str, Any] = {}
    fresh = []
    for index, entry in enumerate(entries(config)):
        *parents, name = entry.path.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        if entry.path in found:
            node[name] = jnp.asarray(found[entry.path])
        elif name in ("bias", "scale"):
            node[name] = jnp.full(entry.shape, float(name == "scale"), jnp.float32)
        else:
            key = jax.random.fold_in(jax.random.key(seed), index)
            node[name] = config.initializer_range * jax.random.normal(key, entry.shape, jnp.float32)
            fresh.append(re.sub(r"layer_\d+", "layer_*", "/".join(parents)))
    if fresh:
        logger.warning(
            "fresh, not pretrained (seed %s): %s",
            seed if isinstance(seed, int) else "of the run",
            ", ".join(dict.fromkeys(fresh)),
        )
    return params


def build_apply(config: ModelConfig, remat: bool) -> Any:
    """``Model.apply`` of an architecture."""
    module = FAMILIES[config.family].module(config, jnp.dtype(config.dtype), remat)

    def apply(params: Params, batch: Mapping[str, Any], *, train: bool = False, key: Key | None = None) -> Outputs:
        check_inputs(batch, config, taken(params))
        if train and key is None and any(rate > 0 for rate in config.dropouts):
            raise InputError("train=True needs a key: the model has dropout")
        rngs = {"dropout": key} if train and key is not None else {}
        outputs, sown = module.apply({"params": params}, batch, train, rngs=rngs, mutable=["stats"])
        return cast(Outputs, outputs._replace(stats=sown["stats"]) if sown else outputs)

    return lift(apply)


def float_type(dtype: Any) -> np.dtype[Any]:
    """The type of computation a person asks for; float32 when they do not."""
    try:
        found = jnp.dtype(jnp.float32 if dtype is None else dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise InputError(f"dtype must be a floating-point type such as float32 or bfloat16; got {dtype!r}")
    return found
