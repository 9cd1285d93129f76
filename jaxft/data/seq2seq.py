"""Texts and targets for encoder-decoder models, with teacher forcing."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from jaxft.data.dataset import TARGET_MASK, Dataset, ragged
from jaxft.data.table import Table
from jaxft.data.tokenizing import IGNORED, as_texts, check_length, ids_of, pad_id
from jaxft.data.tokens import tokenise
from jaxft.errors import InputError


def seq2seq(
    tokenizer: Any,
    table: Table,
    *,
    max_length: int,
    max_target_length: int,
    start_token: int,
    end_token: int | None = None,
) -> Dataset:
    """Texts as `tokenise` makes them, and targets shifted right.

    labels = y₁ … yₙ end,  decoder_input_ids = start y₁ … yₙ

    Rows of both are padded to lengths of their own, ``max_length`` (or a bucket) and ``max_target_length``; they have
    ``attention_mask`` and ``decoder_attention_mask``. The texts' tokens are cached, the targets' are not.

    Args:
        tokenizer: a Hugging Face tokenizer.
        table: columns ``text`` and ``target``.
        max_length: tokens a text may have, special tokens included.
        max_target_length: tokens a target may have with its end; texts and targets that are cut are counted in
            ``truncated``.
        start_token: the id that starts decoding: T5's padding token, BERT's [CLS].
        end_token: the id that ends it; by default the tokenizer's end-of-sequence token, or [SEP] if it has none.

    Raises:
        InputError: a text or target is blank or has no token, an id is not in the vocabulary, there is no end token, or
            a length leaves no room.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> names = ["<pad>", "</s>", "guten", "Tag", "good", "day"]
        >>> words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<pad>"))
        >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="<pad>")
        >>> table = Table.of({"text": ["good day"], "target": ["guten Tag"]})
        >>> rows = seq2seq(tokenizer, table, max_length=8, max_target_length=4, start_token=0)
        >>> [rows.columns[name].values.tolist() for name in ("input_ids", "decoder_input_ids", "labels")]
        [[4, 5], [0, 2, 3], [2, 3, 1]]
    """
    check_length("max_target_length", max_target_length, 2, "a token and the end")
    end = _end(tokenizer, end_token)
    for token in (start_token, end):
        _check_token(tokenizer, token)
    as_texts(table, "target")
    source = tokenise(tokenizer, Table.of({"text": table["text"]}, table.source), max_length=max_length)
    targets = ids_of(tokenizer, table["target"], special=False)
    truncated = source.truncated
    labels = []
    for row, target in enumerate(targets):
        if not target:
            raise InputError(f"the tokenizer finds no token in the target of {table.where(row)}; remove such rows")
        labels.append([*target[: max_target_length - 1], end])
        truncated += len(target) >= max_target_length
    columns = dict(source.columns)
    starts = ([start_token, *row[:-1]] for row in labels)
    columns["decoder_input_ids"] = ragged(starts, fill=pad_id(tokenizer), mask=TARGET_MASK)
    columns["labels"] = ragged(labels, fill=IGNORED, mask=TARGET_MASK)
    return Dataset(MappingProxyType(columns), max_length, truncated, max_target_length)


def _end(tokenizer: Any, end_token: int | None) -> int:
    for token in (end_token, tokenizer.eos_token_id, tokenizer.sep_token_id):
        if token is not None:
            return token
    raise InputError("the tokenizer has no end-of-sequence token; name one with end_token")


def _check_token(tokenizer: Any, token: int) -> None:
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < len(tokenizer):
        raise InputError(f"a token is an id from 0 to {len(tokenizer) - 1} here, got {token!r}")
