"""New tokens for a pretrained model: rows of its embedding and of what predicts them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.errors import InputError
from jaxft.models.config import LABELLED, ModelConfig, Request, TextConfig
from jaxft.models.families import FAMILIES, entries
from jaxft.models.family import config_from_hf
from jaxft.models.load import build_apply
from jaxft.trees import leaf_paths, map_with_path
from jaxft.types import Array, Model


def extend_vocabulary(model: Model, tokens: Sequence[str], *, seed: int = 0, remat: bool = False) -> Model:
    """The model with new tokens, such as the start, delimiter and extract tokens of GPT's recipe.

    Every table that has a row a token, the embedding and an output that is not tied to it, gets rows for them. They
    start at the mean of the others plus normal noise of the model's ``initializer_range``, so that next to nothing is
    predicted otherwise than before; a bias starts at the mean. Rows that a table has beyond the tokenizer's tokens are
    used first. The tokenizer is a copy that never cuts the new tokens, and leaves them out of decoded text as it does
    with all special tokens.

    Args:
        model: from ``load_model`` or ``warm_start``, with a tokenizer; it stays as it is.
        tokens: texts that are no tokens yet.
        seed: of the noise.
        remat: as in ``load_model``.

    Raises:
        InputError: no token, one that is blank, named twice or known already; a model without tokens or tokenizer, or
            whose params are not plain arrays.

    Example:
        >>> from jaxft.models import load_model
        >>> model = extend_vocabulary(load_model("minilm", task="features"), ["<start>", "<extract>"])
        >>> model.config.vocab_size, model.params["embeddings"]["word"]["embedding"].shape
        (30524, (30524, 384))
        >>> model.tokenizer.convert_tokens_to_ids(["<start>", "<extract>"])
        [30522, 30523]

    References:
        Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018.
        Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021.
    """
    config, added = model.config, _checked(model, tokens)
    tokenizer = copy.deepcopy(model.tokenizer)
    known = len(tokenizer)
    tokenizer.add_tokens(added, special_tokens=True)
    new = replace(_resized(config, max(config.vocab_size, len(tokenizer))), dtype=config.dtype)
    larger = {entry.path: entry.shape for entry in entries(_resized(config, config.vocab_size + 1))}
    paths, key = list(larger), jax.random.key(seed)

    def extended(path: str, leaf: Array) -> Array:
        axis = next((i for i, (a, b) in enumerate(zip(leaf.shape, larger[path], strict=True)) if a != b), None)
        if axis is None:
            return leaf
        rows = jnp.moveaxis(jnp.asarray(leaf), axis, 0)
        fresh = jnp.broadcast_to(rows[:known].mean(axis=0), (len(added), *rows.shape[1:]))
        if rows.ndim > 1:
            noise = jax.random.normal(jax.random.fold_in(key, paths.index(path)), fresh.shape, jnp.float32)
            fresh = fresh + config.initializer_range * noise
        whole = jnp.concatenate([rows[:known], fresh.astype(rows.dtype), rows[len(tokenizer) :]])
        return jnp.moveaxis(whole, 0, axis)

    return Model(build_apply(new, remat), map_with_path(extended, model.params), new, tokenizer)


def _checked(model: Model, tokens: Sequence[str]) -> list[str]:
    if not isinstance(model.config, TextConfig):
        kind = getattr(model.config, "family", type(model.config).__name__)
        raise InputError(f"tokens are for models of texts from load_model; this one is a {kind}")
    if model.tokenizer is None:
        raise InputError("the model comes without tokenizer files: there is nothing to add tokens to")
    shapes = {path: getattr(leaf, "shape", None) for path, leaf in leaf_paths(model.params).items()}
    if shapes != {entry.path: entry.shape for entry in entries(model.config)}:
        raise InputError("the params are not the plain arrays of the model: extend before adapting, or merge first")
    if isinstance(tokens, str) or not tokens:
        raise InputError(f"expected a list of new tokens such as ['<start>', '<extract>']; got {tokens!r}")
    known = model.tokenizer.get_vocab()
    for place, token in enumerate(tokens):
        if not isinstance(token, str) or not token.strip():
            raise InputError(f"a token is a text that is not blank; got {token!r}")
        if token in known or token in tokens[:place]:
            named = "named twice" if token in tokens[:place] else f"known already, as id {known[token]}"
            raise InputError(f"the token {token!r} is {named}: choose another text")
    return list(tokens)


def _resized(config: Any, size: int) -> ModelConfig:
    """The configuration of the same model with so many tokens, read anew from the fields of its file."""
    raw: dict[str, Any] = dict(config.raw)
    parts = [name for name in ("encoder", "decoder") if isinstance(raw.get(name), Mapping)]
    if len({raw[name].get("vocab_size") for name in parts}) > 1:
        raise InputError(
            "the encoder and the decoder have vocabularies of different sizes: one tokenizer is not theirs"
        )
    raw |= {name: {**raw[name], "vocab_size": size} for name in parts} if parts else {"vocab_size": size}
    labels = config.labels if config.task in LABELLED else None
    pooling = None if config.pooling == "tokens" else config.pooling
    return config_from_hf(FAMILIES[config.family], raw, Request(config.task, labels=labels, pooling=pooling))
