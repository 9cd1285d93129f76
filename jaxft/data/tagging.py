"""Words with tags: a tag counts on the first piece of its word, and is read back from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxft.data.dataset import Dataset, ragged
from jaxft.data.labels import Vocabulary
from jaxft.data.table import Table
from jaxft.data.tokenizing import IGNORED, check_fast, check_length, ids_of, pad_id
from jaxft.errors import InputError, nearest

_CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class TagDataset(Dataset):
    """Tokens of word lists, and where each word begins. Made by `tag`.

    Attributes:
        starts: of each row, the place of every word's first piece, or -1 for a word that was cut off or has none.
    """

    starts: tuple[np.ndarray, ...]


def tag(tokenizer: Any, table: Table, *, max_length: int, labels: Vocabulary | None) -> TagDataset:
    """Turns lists of words into tokens, with the label of a word on its first piece and -100 elsewhere.

    The tokens are those of the words with blanks between them, also where a tokenizer sees the blank before a word.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        table: columns ``words`` and, to learn from, ``tags``: in each row as many tags as words.
        max_length: tokens a row may have, special tokens included; longer rows are cut and counted in ``truncated``.
        labels: the tags (see `tag_vocabulary`); None makes an unlabelled dataset.

    Raises:
        InputError: a row has no words, other numbers of words and tags, an unknown tag or a word that is no text, or
            the tokenizer is slow.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> pieces = Tokenizer(models.WordPiece({"[UNK]": 0, "run": 1, "##s": 2, "she": 3}, unk_token="[UNK]"))
        >>> pieces.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces)
        >>> table = Table.of({"words": [["she", "runs"]], "tags": [["PRON", "VERB"]]})
        >>> names = tag_vocabulary(table)
        >>> rows = tag(tokenizer, table, max_length=8, labels=names)
        >>> rows.columns["input_ids"].values.tolist(), rows.columns["labels"].values.tolist()
        ([3, 1, 2], [0, 1, -100])
        >>> word_tags(rows, np.array([[0, 1, 0]]), names)
        [['PRON', 'VERB']]
    """
    check_fast(tokenizer, "the first piece of a word")
    special = tokenizer.num_special_tokens_to_add(pair=False)
    check_length("max_length", max_length, special + 1, "a word")
    words = _words(table)
    ids = None if labels is None else _tag_ids(table, labels)
    tokens, starts, truncated = _encode(tokenizer, words, max_length)
    for row, places in enumerate(starts):
        if not (places >= 0).any():
            raise InputError(f"the tokenizer finds no token in the words of {table.where(row)}; remove such rows")
    columns: dict[str, Any] = {"input_ids": ragged(tokens, fill=pad_id(tokenizer))}
    if ids is not None:
        rows = zip(tokens, starts, ids, strict=True)
        columns["labels"] = ragged((_labels(len(row), places, tags) for row, places, tags in rows), fill=IGNORED)
    return TagDataset(MappingProxyType(columns), max_length, truncated, starts=tuple(starts))


def tag_vocabulary(table: Table) -> Vocabulary:
    """The sorted tags of a training table.

    Args:
        table: columns ``words`` and ``tags``.

    Raises:
        InputError: a row has other numbers of words and tags, or there is only one tag.

    Example:
        >>> tag_vocabulary(Table.of({"words": [["he", "ran"]], "tags": [["PRON", "VERB"]]})).names
        ('PRON', 'VERB')
    """
    names = sorted({name for tags in _tags(table) for name in tags})
    if len(names) < 2:
        raise InputError(f"the words of {table.source} have the tags {names}; a tagger needs two")
    return Vocabulary(tuple(names))


def word_tags(dataset: TagDataset, predictions: Any, labels: Vocabulary) -> list[list[str | None]]:
    """The predicted tag of every word, read from its first piece; None for a word that was cut off.

    Args:
        dataset: what `tag` made.
        predictions: ids ``[rows, length]`` or logits ``[rows, length, tags]``, in order; rows may differ in length.
        labels: the tags.

    Raises:
        InputError: the predictions are not those of the dataset's rows.
    """
    if len(predictions) != len(dataset):
        raise InputError(f"expected predictions of {len(dataset)} rows, got {len(predictions)}")
    tags: list[list[str | None]] = []
    for row, places in enumerate(dataset.starts):
        values = np.asarray(predictions[row])
        found = values.argmax(-1) if values.ndim == 2 else values
        if found.ndim != 1 or len(found) <= places.max():
            raise InputError(f"the predictions of row {row + 1} are {list(values.shape)}, too short for its words")
        ids = [None if place < 0 else int(found[place]) for place in places]
        if wrong := [name for name in ids if name is not None and not 0 <= name < len(labels.names)]:
            raise InputError(
                f"row {row + 1} is predicted to have tag {wrong[0]}, but there are {len(labels.names)} tags"
            )
        tags.append([None if name is None else labels.names[name] for name in ids])
    return tags


def _words(table: Table) -> tuple[list[str], ...]:
    if not len(table):
        raise InputError(f"{table.source} has columns {', '.join(map(repr, table.names))} but no rows")
    for row, words in enumerate(table["words"]):
        if isinstance(words, str) or not all(isinstance(word, str) for word in words):
            raise InputError(f"'words' must be a list of texts, but {table.where(row)} holds {words!r}")
        if not len(words) or not all(word.strip() for word in words):
            raise InputError(f"'words' is empty or has a blank word in {table.where(row)}; fill or remove such rows")
    return tuple(list(words) for words in table["words"])


def _tags(table: Table) -> list[list[str]]:
    rows = []
    for row, (words, tags) in enumerate(zip(_words(table), table["tags"], strict=True)):
        if isinstance(tags, str) or tags is None:
            raise InputError(f"'tags' must be a list, one a word, but {table.where(row)} holds {tags!r}")
        if len(words) != len(tags):
            raise InputError(
                f"{table.where(row)} has {len(words)} words but {len(tags)} tags; each word needs one: {words[:8]}, "
                f"{list(tags)[:8]}"
            )
        rows.append([str(name) for name in tags])
    return rows


def _tag_ids(table: Table, labels: Vocabulary) -> list[list[int]]:
    known = {name: index for index, name in enumerate(labels.names)}
    rows = []
    for row, tags in enumerate(_tags(table)):
        for name in tags:
            if name not in known:
                raise InputError(f"the tag {name!r} in {table.where(row)} is unknown ({nearest(name, labels.names)})")
        rows.append([known[name] for name in tags])
    return rows


def _encode(
    tokenizer: Any, words: Sequence[list[str]], max_length: int
) -> tuple[list[list[int]], list[np.ndarray], int]:
    """Tokens, the first pieces of words, and how many rows were cut."""
    tokens, starts, truncated = [], [], 0
    blanks = _needs_blanks(tokenizer)
    for begin in range(0, len(words), _CHUNK):
        chunk = [_spaced(row) if blanks else row for row in words[begin : begin + _CHUNK]]
        whole = _call(tokenizer, chunk)
        for place, row in enumerate(chunk):
            encoded, at = whole, place
            if len(whole["input_ids"][place]) > max_length:
                encoded, at = _call(tokenizer, [row], max_length), 0
                truncated += 1
            tokens.append(list(encoded["input_ids"][at]))
            starts.append(_first_pieces(encoded.word_ids(at), len(row)))
    return tokens, starts, truncated


def _call(tokenizer: Any, words: list[list[str]], max_length: int | None = None) -> Any:
    return tokenizer(
        words,
        is_split_into_words=True,
        truncation=max_length is not None,
        max_length=max_length,
        padding=False,
        verbose=False,
    )


def _needs_blanks(tokenizer: Any) -> bool:
    """Whether words alone are not what they are in a text: byte-level tokenizers see the blank before a word."""
    text = ids_of(tokenizer, ["a a"])[0]
    apart, spaced = (list(_call(tokenizer, [row])["input_ids"][0]) for row in (["a", "a"], ["a", " a"]))
    return apart != text == spaced


def _spaced(words: list[str]) -> list[str]:
    return [words[0], *(" " + word for word in words[1:])]


def _first_pieces(word_of: Sequence[int | None], words: int) -> np.ndarray:
    starts = np.full(words, -1)
    for place, word in enumerate(word_of):
        if word is not None and starts[word] < 0:
            starts[word] = place
    return starts


def _labels(length: int, starts: np.ndarray, tags: Sequence[int]) -> np.ndarray:
    labels = np.full(length, IGNORED, np.int32)
    labels[starts[starts >= 0]] = np.asarray(tags, np.int32)[starts >= 0]
    return labels
