"""An encoder and a decoder from two encoders that were pretrained alone.

References:
    Rothe, Narayan, Severyn. Leveraging Pre-trained Checkpoints for Sequence Generation Tasks, 2020.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.models.bert import BERT
from jaxft.models.config import Request
from jaxft.models.encoder_decoder import ENCODER_DECODER
from jaxft.models.family import config_from_hf
from jaxft.models.hub import match
from jaxft.models.load import build_apply, build_params, float_type
from jaxft.models.pretrained import Pretrained, find_pretrained
from jaxft.types import Model

Source = str | os.PathLike[str]
_FRESH = re.compile(r"pooler/|lm_head/|encoder/projection/|decoder/layer_\d+/cross_attention/")


def warm_start(
    encoder: Source, decoder: Source | None = None, *, seed: int = 0, dtype: Any = None, remat: bool = False
) -> Model:
    """A sequence-to-sequence model whose encoder and decoder both start from a pretrained BERT.

    The decoder's self-attention, feed-forward and embeddings are those of its source, and so are the layers before its
    outputs where the source was saved with them. Its cross-attention starts fresh, and the log says so: the model has
    to be trained before it writes anything. The outputs are tied to the decoder's word embeddings; rows start with
    [CLS] and end with [SEP].

    Args:
        encoder: an asset ("minilm"), a directory or a hub id of a BERT; its tokenizer becomes the model's.
        decoder: the same for the decoder; None starts from the same arrays as the encoder.
        seed: of what starts fresh.
        dtype: type of computation; the params stay float32, and so do the logits.
        remat: recompute each layer in the backward pass in place of storing it.

    Raises:
        InputError: a source that is no BERT, lacks a tokenizer, or has another vocabulary than the other.

    Example:
        >>> import jax
        >>> model = warm_start("minilm")
        >>> source = model.tokenizer(["a long text"], return_tensors="np")
        >>> start = np.full((1, 1), model.config.decoder_start_token)
        >>> jax.jit(model.apply)(model.params, {**source, "decoder_input_ids": start}).logits.shape
        (1, 1, 30522)

    References:
        Rothe, Narayan, Severyn. Leveraging Pre-trained Checkpoints for Sequence Generation Tasks, 2020.
    """
    first, second = _bert(encoder), _bert(encoder if decoder is None else decoder)
    tokenizer = _tokenizer(first, second)
    raw = {
        "model_type": ENCODER_DECODER.model_type,
        "is_encoder_decoder": True,
        "encoder": first.raw,
        "decoder": second.raw | {"is_decoder": True, "add_cross_attention": True},
        "decoder_start_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = config_from_hf(ENCODER_DECODER, raw, Request("seq2seq"))
    config = replace(config, dtype=float_type(dtype).name)
    wanted = [entry._replace(fresh=bool(_FRESH.match(entry.path))) for entry in ENCODER_DECODER.entries(config)]
    found = match(
        wanted,
        _arrays(first, second),
        use_head=True,
        ignored=ENCODER_DECODER.ignored,
        source=" and ".join(dict.fromkeys((str(first.path), str(second.path)))),
    )
    return Model(build_apply(config, remat), build_params(config, found, seed), config, tokenizer)


def _bert(source: Source) -> Pretrained:
    found = find_pretrained(source)
    if found.raw.get("model_type") != BERT.model_type:
        raise InputError(f"a warm start is from a bert; {found.path} is a {found.raw.get('model_type')}")
    return found


def _tokenizer(encoder: Pretrained, decoder: Pretrained) -> Any:
    """The encoder's, which has to be the decoder's too."""
    first, second = (
        found.tokenizer(config_from_hf(BERT, found.raw, Request("features"))) for found in (encoder, decoder)
    )
    for found, tokenizer in ((encoder, first), (decoder, second)):
        if tokenizer is None:
            raise InputError(f"a warm start needs a tokenizer; there is none in {found.path}")
    if first.get_vocab() != second.get_vocab():
        raise InputError(
            f"{encoder.path} and {decoder.path} have different vocabularies: start both parts from models with the "
            "same tokenizer"
        )
    for name in ("cls_token", "sep_token", "pad_token"):
        if getattr(first, name) is None:
            raise InputError(f"a warm start needs a tokenizer with a {name}; the one in {encoder.path} has none")
    return first


def _arrays(encoder: Pretrained, decoder: Pretrained) -> Mapping[str, np.ndarray]:
    """Those of both sources, named as in the file of an encoder-decoder; heads stay behind."""
    found = {}
    for name, array in encoder.arrays(BERT).items():
        if name.startswith("pooler.") or not _other(name):
            found[f"encoder.{name}"] = array
    for name, array in decoder.arrays(BERT).items():
        if name.startswith("cls.predictions."):
            found[f"decoder.{name}"] = array
        elif not _other(name):
            found[f"decoder.bert.{name}"] = array
    return found


def _other(name: str) -> bool:
    return any(re.fullmatch(one, name) for one in BERT.ignored)
