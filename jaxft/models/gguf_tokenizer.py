"""The vocabulary of a GGUF file as a Hugging Face tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxft.errors import InputError

_MODEL = "gpt2"  # byte-level byte-pair encoding
_DIGITS_APART = {"smollm": True, "gpt-2": False, "default": False}
_CONTROL, _USER_DEFINED = 3, 4
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def make_tokenizer(metadata: Mapping[str, Any], path: Path) -> Any:
    """The tokenizer that the metadata of a GGUF file describe, or None when they hold no vocabulary.

    Args:
        metadata: the file's fields by name.
        path: for messages.

    Raises:
        InputError: the vocabulary is of another kind than byte-level BPE, its texts are cut up in an unknown way, or
            its parts do not fit together.
    """
    held = {name.removeprefix("tokenizer.ggml."): value for name, value in metadata.items()}
    if "tokens" not in held:
        return None
    if held.get("model") != _MODEL or held.get("pre", "default") not in _DIGITS_APART:
        raise InputError(
            f"the tokenizer of {path} is {held.get('model')!r} with the splitting {held.get('pre')!r}; supported: "
            f"{_MODEL!r} with {', '.join(map(repr, _DIGITS_APART))}"
        )
    try:
        return _wrapped(_byte_level(held), held, metadata)
    except Exception as error:  # the library's builder has exceptions of its own
        raise InputError(
            f"{path} is damaged: its vocabulary does not fit together ({error}); fetch it again"
        ) from error


def _byte_level(held: Mapping[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = held["tokens"]
    merges = [(left, right) for left, right in (merge.split(" ") for merge in held["merges"])]
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=bool(held.get("add_space_prefix", False)))
    if _DIGITS_APART[held.get("pre", "default")]:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    else:
        tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    kinds = dict(zip(tokens, held.get("token_type", ()), strict=False))
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token, kind in kinds.items() if kind == _CONTROL]
    )
    tokenizer.add_tokens(
        [AddedToken(token, normalized=False) for token, kind in kinds.items() if kind == _USER_DEFINED]
    )
    if held.get("add_bos_token", False):
        first = tokens[held["bos_token_id"]]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, held["bos_token_id"])]
        )
    return tokenizer


def _wrapped(tokenizer: Any, held: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it advises to install torch, which is not needed
    from transformers import PreTrainedTokenizerFast

    named = {ours: held.get(f"{theirs}_token_id") for ours, theirs in _NAMED.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=int(metadata.get("llama.context_length", 1 << 30)),
        clean_up_tokenization_spaces=False,
        chat_template=metadata.get("tokenizer.chat_template"),
        **{name: held["tokens"][place] for name, place in named.items() if place is not None},
    )
