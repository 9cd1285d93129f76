"""GPT's input transformations: structured inputs as one sequence between start, delimiter and extract tokens."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from jaxft.data.dataset import Dataset, ragged
from jaxft.data.table import Table
from jaxft.data.tokenizing import as_texts, check_length, ids_of, pad_id
from jaxft.data.tokens import label_array
from jaxft.errors import InputError


def structured(
    tokenizer: Any, table: Table, *, start: int, delimiter: int, extract: int, max_length: int, labels: Any = None
) -> Dataset:
    """One text as [start] text [extract], a pair as [start] text [delimiter] text_pair [extract].

    The extract token is the last of its row, and it is its feature that a head reads. A row that is too long loses
    tokens from the end of its longer text first, never one of the three.

    Args:
        tokenizer: a Hugging Face tokenizer.
        table: a column ``text`` and, for pairs such as premise and hypothesis, ``text_pair``.
        start: id of the start token; the caller adds the three to the vocabulary and to the embedding.
        delimiter: id of the token between the texts of a pair.
        extract: id of the token at the end.
        max_length: tokens a row may have; longer rows are cut and counted in ``truncated``.
        labels: ``[rows]`` ids or floats; None makes an unlabelled dataset.

    Raises:
        InputError: a text is blank or has no token, two of the three tokens are one, the length leaves no room, or the
            labels are not one a row.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"?": 0, "it": 1, "rains": 2, "is": 3, "wet": 4}, unk_token="?"))
        >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
        >>> table = Table.of({"text": ["it rains"], "text_pair": ["it is wet"]})
        >>> rows = structured(tokenizer, table, start=5, delimiter=6, extract=7, max_length=9)
        >>> rows.columns["input_ids"].values.tolist()
        [5, 1, 2, 6, 1, 3, 4, 7]

    References:
        Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018.
    """
    pair = "text_pair" in table
    check_length("max_length", max_length, 5 if pair else 3, "the texts with their start, delimiter and extract tokens")
    if len({start, delimiter, extract}) < 3 or min(start, delimiter, extract) < 0:
        raise InputError(f"start, delimiter and extract must be three ids, got {start}, {delimiter} and {extract}")
    as_texts(table)
    room = max_length - (3 if pair else 2)
    first = ids_of(tokenizer, table["text"], special=False)
    second = ids_of(tokenizer, table["text_pair"], special=False) if pair else [[]] * len(first)
    rows, truncated = [], 0
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        if not a or (pair and not b):
            raise InputError(f"the tokenizer finds no token in {table.where(row)}; remove such rows")
        truncated += len(a) + len(b) > room
        kept_a, kept_b = _cut(a, b, room)
        rows.append([start, *kept_a, *([delimiter, *kept_b] if pair else ()), extract])
    columns: dict[str, Any] = {"input_ids": ragged(rows, fill=pad_id(tokenizer))}
    if labels is not None:
        columns["labels"] = label_array(labels, len(rows))
    return Dataset(MappingProxyType(columns), max_length, truncated)


def both_orders(table: Table) -> Table:
    """A table of pairs with each row twice, the second time in the other order: for similarity, which has none.

    Rows 2i and 2i + 1 are row i's two orders; the sum of their features is what a head reads.

    Args:
        table: columns ``text`` and ``text_pair``; others are repeated.

    Example:
        >>> both = both_orders(Table.of({"text": ["a"], "text_pair": ["b"], "label": [1]}))
        >>> both["text"], both["text_pair"], both["label"]
        (('a', 'b'), ('b', 'a'), (1, 1))

    References:
        Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018.
    """
    table.require("text", "text_pair")
    columns = {name: [value for value in values for _ in range(2)] for name, values in table.columns.items()}
    pairs = list(zip(table["text"], table["text_pair"], strict=True))
    columns["text"] = [text for pair in pairs for text in pair]
    columns["text_pair"] = [text for pair in pairs for text in reversed(pair)]
    return Table.of(columns, table.source)


def _cut(a: list[int], b: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both texts within the room, tokens taken from the longer one first."""
    kept = min(len(a), max(room - len(b), (room + 1) // 2))
    return a[:kept], b[: room - kept]
