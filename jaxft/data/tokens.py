"""Tokenisation, once: the tokens of a table are kept in the cache directory and found again by what made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxft.data.dataset import Dataset, Ragged
from jaxft.data.table import Table, check_texts
from jaxft.data.tokenizing import check_tokenizer
from jaxft.errors import InputError
from jaxft.files import atomic_file, cache_dir

_FORMAT = b"jaxft tokens 1"
_CHUNK = 1000
_TOKENS = ("input_ids", "token_type_ids")


def tokenise(tokenizer: Any, table: Table, *, max_length: int, labels: Any = None) -> Dataset:
    """Turns the texts of a table into tokens, cut to a length and cached on disk.

    The cache entry's name is a hash of the texts, the tokenizer and the length, so it is never stale; a damaged
    entry is made anew. Rows are stored without padding, which batches add.

    Args:
        tokenizer: a Hugging Face tokenizer.
        table: a table with a column ``text`` and, for pairs of texts, ``text_pair``.
        max_length: tokens a row may have, special tokens included; longer rows are cut and counted in
            ``truncated``. A pair is cut from its longer text first.
        labels: ``[rows]`` ids or floats (see `vocabulary` and `float_labels`); None makes an unlabelled dataset.

    Raises:
        InputError: texts are given bare, a row has no token, the length leaves room for special tokens only, or the
            labels are not one a row.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"[UNK]": 0, "good": 1, "film": 2}, unk_token="[UNK]"))
        >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
        >>> from jaxft.data import Table
        >>> dataset = tokenise(tokenizer, Table.of({"text": ["good film", "good good film"]}), max_length=2)
        >>> len(dataset), dataset.truncated, dataset.lengths.tolist()
        (2, 1, [2, 2])
    """
    check_tokenizer(tokenizer)
    try:
        texts = table["text"]
    except TypeError as error:
        advice = "make one with Table.of({'text': [...]})"
        raise InputError(f"tokenise expects a table with a column text; {advice}") from error
    check_texts(table)
    pairs = table.get("text_pair")
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if max_length <= special:
        raise InputError(f"max_length must be more than the {special} special tokens of a row, got {max_length}")
    path = cache_dir() / "tokens" / f"{_key(tokenizer, texts, pairs, max_length)}.npz"
    found = _load(path, len(table))
    if found is None:
        found = _encode(tokenizer, texts, pairs, max_length)
        with atomic_file(path) as temporary, Path(temporary).open("wb") as file:
            np.savez(file, **found)
    lengths = np.diff(found["offsets"])
    if len(lengths) and lengths.min() == 0:
        raise InputError(f"the tokenizer finds no token in {table.where(int(lengths.argmin()))}; remove such rows")
    fills = {"input_ids": getattr(tokenizer, "pad_token_id", None) or 0, "token_type_ids": 0}
    columns: dict[str, Any] = {
        name: Ragged(_fixed(found[name]), _fixed(found["offsets"]), fills[name]) for name in _TOKENS if name in found
    }
    if labels is not None:
        columns["labels"] = label_array(labels, len(table))
    return Dataset(MappingProxyType(columns), max_length, int(found["truncated"]))


def check_max_length(max_length: int, *, max_positions: int) -> None:
    """Refuses rows that are longer than a model's positions.

    Args:
        max_length: tokens a row may have.
        max_positions: tokens the model can tell apart, ``Model.config.max_positions``.

    Raises:
        InputError: max_length is less than 1 or more than max_positions.

    Example:
        >>> check_max_length(128, max_positions=512)
    """
    if not 1 <= max_length <= max_positions:
        raise InputError(
            f"max_length must be from 1 to the model's {max_positions} positions, got {max_length}; "
            "longer texts are cut to it"
        )


def _encode(tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> dict[str, Any]:
    """Flat tokens and offsets. Rows that are too long are found without truncation, then encoded again with it."""
    rows: dict[str, list[Sequence[int]]] = {}
    truncated = 0
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        chunk_pairs = None if pairs is None else list(pairs[start : start + _CHUNK])
        encoded = _call(tokenizer, chunk, chunk_pairs)
        long = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
        truncated += len(long)
        if long:
            long_pairs = None if chunk_pairs is None else [chunk_pairs[row] for row in long]
            cut = _call(tokenizer, [chunk[row] for row in long], long_pairs, max_length=max_length)
            for name, values in cut.items():
                for row, value in zip(long, values, strict=True):
                    encoded[name][row] = value
        for name, values in encoded.items():
            rows.setdefault(name, []).extend(values)
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in rows["input_ids"]], dtype=np.int64)])
    flat = {name: np.concatenate([np.asarray(row, np.int32) for row in values]) for name, values in rows.items()}
    return flat | {"offsets": offsets, "truncated": np.int64(truncated)}


def _call(
    tokenizer: Any, texts: list[str], pairs: list[str] | None, max_length: int | None = None
) -> dict[str, list[Sequence[int]]]:
    encoded = tokenizer(
        texts,
        text_pair=pairs,
        truncation=max_length is not None,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )
    wanted = _TOKENS if pairs is not None else _TOKENS[:1]
    return {name: list(encoded[name]) for name in wanted if name in encoded}


def _key(tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> str:
    digest = hashlib.sha256(_FORMAT)
    parts = [_identity(tokenizer), str(max_length), str(len(texts)), str(pairs is not None), *texts, *(pairs or ())]
    for part in parts:
        content = part.encode("utf-8")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _identity(tokenizer: Any) -> str:
    """What a tokenizer's output depends on, without the truncation and padding that its last call left in it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        state.pop("truncation", None)
        state.pop("padding", None)
    else:
        settings = repr(sorted(tokenizer.init_kwargs.items()))
        state = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab(), "settings": settings}
    options = [tokenizer.truncation_side, list(tokenizer.model_input_names), tokenizer.split_special_tokens]
    return json.dumps([options, state], sort_keys=True)


def _load(path: Path, rows: int) -> dict[str, Any] | None:
    """A cache entry, or None when there is none or it is damaged."""
    try:
        # numpy leaves a file it opened itself open when the archive in it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        offsets, flat = found["offsets"], [found[name] for name in _TOKENS if name in found]
        whole = len(offsets) == rows + 1 and all(len(values) == offsets[-1] for values in flat) and "truncated" in found
        return found if whole and "input_ids" in found else None
    except Exception:  # damage can surface as almost anything, and the answer is always to tokenise again
        return None


def label_array(labels: Any, rows: int) -> np.ndarray:
    """Labels as a column: int32 or float32, one a row.

    Args:
        labels: ``[rows, …]`` ids or floats.
        rows: how many there must be.

    Raises:
        InputError: they are no finite numbers, or not one a row.

    Example:
        >>> label_array([0.5, 1], 2)
        array([0.5, 1. ], dtype=float32)
    """
    array = np.asarray(labels)
    if array.shape[:1] != (rows,) or array.dtype.kind not in "biuf":
        raise InputError(f"expected {rows} numeric labels, one a row, got {array.dtype} of shape {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array.reshape(rows, -1)).all(axis=1))[0])
        raise InputError(f"labels must be finite numbers, but that of row {row + 1} is {array[row]}")
    return _fixed(array.astype(np.float32 if array.dtype.kind == "f" else np.int32))


def _fixed(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
