"""Texts for a causal language model: documents packed into full rows, or one a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxft.data.dataset import Dataset
from jaxft.data.packing import one_a_row, packed, shifted
from jaxft.data.table import Table
from jaxft.data.tokenizing import as_texts, check_length, ids_of, pad_id
from jaxft.errors import InputError


def pack(tokenizer: Any, texts: Table | Sequence[str], *, length: int) -> Dataset:
    """Packs documents into rows of ``length`` tokens, best fit first; `fill_rate` says how full they are.

    Each document is the tokens the tokenizer makes of it, ended by its end-of-sequence token if it has one. A longer
    document is cut into pieces; no token is lost. ``segment_ids`` numbers the pieces of a row from 1, and ``labels``
    holds the next token of the same piece: -100 at its last.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: the documents, or a table with a column ``text``.
        length: tokens a row.

    Raises:
        InputError: there is no text, one is blank or has no token, or the length is below 2.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"<end>": 0, "a": 1, "good": 2, "film": 3}, unk_token="<end>"))
        >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
        >>> rows = pack(tokenizer, ["a good film", "film"], length=6)
        >>> [rows.columns[name].values.tolist() for name in ("input_ids", "segment_ids")]
        [[1, 2, 3, 0, 3, 0], [1, 1, 1, 1, 2, 2]]
        >>> rows.columns["labels"].values.tolist()
        [2, 3, 0, -100, 0, -100]

    References:
        Krell et al., "Efficient Sequence Packing without Cross-contamination", 2021.
    """
    check_length("length", length, 2, "a token and the one after it")
    pieces = [
        document[start : start + length]
        for document in _documents(tokenizer, texts)
        for start in range(0, len(document), length)
    ]
    return packed([(ids, shifted(ids)) for ids in pieces], length=length, fill=pad_id(tokenizer))


def language_modelling(tokenizer: Any, texts: Table | Sequence[str], *, max_length: int) -> Dataset:
    """One document a row, cut at ``max_length`` tokens; tokens and labels are those of `pack`.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: the documents, or a table with a column ``text``.
        max_length: tokens a row may have; longer documents are cut and counted in ``truncated``.

    Raises:
        InputError: there is no text, one is blank or has no token, or the length is below 2.
    """
    check_length("max_length", max_length, 2, "a token and the one after it")
    documents = _documents(tokenizer, texts)
    truncated = sum(len(document) > max_length for document in documents)
    rows = [document[:max_length] for document in documents]
    pieces = [(ids, shifted(ids)) for ids in rows]
    return one_a_row(pieces, max_length=max_length, fill=pad_id(tokenizer), truncated=truncated)


def _documents(tokenizer: Any, texts: Table | Sequence[str]) -> list[list[int]]:
    table = as_texts(texts)
    documents = ids_of(tokenizer, table["text"])
    end = tokenizer.eos_token_id
    for row, document in enumerate(documents):
        if not document:
            raise InputError(f"the tokenizer finds no token in {table.where(row)}; remove such rows")
        if end is not None and document[-1] != end:
            document.append(end)
    return documents
