"""Questions answered by a span of a context: long contexts become windows, windows become answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxft.data.dataset import Dataset, ragged
from jaxft.data.table import Table
from jaxft.data.tokenizing import as_texts, check_fast, check_length, ids_of, pad_id
from jaxft.errors import InputError

_IGNORED = -100
_CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class SpanDataset(Dataset):
    """Windows over contexts, and what leads from their tokens back to the text. Made by `spans`.

    Attributes:
        of_row: the question each window belongs to, ``[windows]``.
        contexts: the context of each question.
        first: of each window, the place of its first token of context, ``[windows]``.
        characters: of each window, where its tokens of context start and end in the context, ``[tokens, 2]``.
        truncated: how many questions have an answer that no window holds whole; their labels are -100, to be ignored.
    """

    of_row: np.ndarray
    contexts: tuple[str, ...]
    first: np.ndarray
    characters: tuple[np.ndarray, ...]


class _Window(NamedTuple):
    ids: Sequence[int]
    kinds: Sequence[int] | None
    first: int
    characters: np.ndarray


def spans(tokenizer: Any, table: Table, *, max_length: int, stride: int) -> SpanDataset:
    """Cuts contexts into overlapping windows, each after its question.

    ``labels [windows, 2]`` holds the first and the last token of the row's first answer, or 0, 0 (the place of
    [CLS]) in a window that does not hold all of it and in all windows of a row without one. ``context_mask`` is 1 on
    the tokens of the context.

    Args:
        tokenizer: a fast Hugging Face tokenizer that pairs texts.
        table: columns ``question`` and ``context`` and, to learn from, ``answers`` with ``answer_start``: in each row
            the texts that answer, and the character each starts at. A column ``answers`` of
            ``{"text": […], "answer_start": […]}`` is read too.
        max_length: tokens a window may have, question and special tokens included.
        stride: tokens of context that neighbouring windows share.

    Raises:
        InputError: a text is blank, an answer is not where it is said to be, a question leaves no room for more context
            than the stride, or the tokenizer is slow.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers, processors
        >>> from transformers import PreTrainedTokenizerFast
        >>> names = "? [CLS] [SEP] who he she ran".split()
        >>> words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "?"))
        >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> words.post_processor = processors.TemplateProcessing(
        ...     single="$A", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
        >>> table = Table.of({"question": ["who ran"], "context": ["she ran he ran"],
        ...     "answers": [("he",)], "answer_start": [(8,)]})
        >>> windows = spans(PreTrainedTokenizerFast(tokenizer_object=words), table, max_length=8, stride=1)
        >>> windows.columns["labels"].tolist(), windows.of_row.tolist()
        ([[6, 6], [4, 4]], [0, 0])
        >>> logits = np.zeros((2, 8, 2))
        >>> logits[1, 4, 0] = logits[1, 5, 1] = 9
        >>> span_answers(windows, logits)
        ['he ran']

    References:
        Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
    """
    check_fast(tokenizer, "a span of characters")
    for name in ("question", "context"):
        as_texts(table, name)
    found = gold_answers(table) if "answers" in table else None
    _check_room(tokenizer, table, max_length, stride)
    of_row, windows = _windows(tokenizer, table, max_length, stride)
    columns: dict[str, Any] = {"input_ids": ragged((w.ids for w in windows), fill=pad_id(tokenizer))}
    if windows[0].kinds is not None:
        columns["token_type_ids"] = ragged(w.kinds for w in windows if w.kinds is not None)
    columns["context_mask"] = ragged(_context_mask(window) for window in windows)
    lost = 0
    if found is not None:
        labels = _labels(windows, [found[row] for row in of_row])
        held = np.zeros(len(table), bool)
        np.logical_or.at(held, of_row, labels.any(axis=1))
        unheld = ~held & np.array([bool(answers) for answers in found])
        labels[unheld[of_row]] = _IGNORED  # an answer longer than the windows is none that a model should deny
        columns["labels"], lost = labels, int(unheld.sum())
    return SpanDataset(
        MappingProxyType(columns),
        max_length,
        truncated=lost,
        of_row=of_row,
        contexts=table["context"],
        first=np.array([window.first for window in windows]),
        characters=tuple(window.characters for window in windows),
    )


def gold_answers(table: Table) -> list[list[tuple[str, int]]]:
    """The answers of each row with the character they start at, checked against the contexts.

    Args:
        table: columns ``context``, ``answers`` and perhaps ``answer_start``, as `spans` reads them.

    Raises:
        InputError: an answer is blank, or is not where it is said to be.

    Example:
        >>> table = Table.of({"context": ["she ran"], "answers": [("ran",)], "answer_start": [(3,)]})
        >>> gold_answers(table)
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: the answer 'ran' does not stand at character 3 of the context in row 1 of the table; \
there stands ' ra'; it stands at 4
    """
    starts = table["answer_start"] if "answer_start" in table else (None,) * len(table)
    rows = []
    for row, (answers, start) in enumerate(zip(table["answers"], starts, strict=True)):
        rows.append(_pairs(answers, start, table.where(row)))
        for text, place in rows[-1]:
            _check_answer(table, row, text, place)
    return rows


def span_answers(
    dataset: SpanDataset,
    logits: np.ndarray | Sequence[np.ndarray],
    *,
    max_answer_length: int = 30,
    null_threshold: float | None = None,
) -> list[str]:
    """The best span of each question over all its windows: the largest sum of the logits of its two ends.

    Args:
        dataset: what `spans` made.
        logits: of starts and ends, ``[windows, length, 2]``, in order; an array each window may have its own length.
        max_answer_length: tokens an answer may have.
        null_threshold: the answer is "" where the logits of [CLS], in the window where they are smallest, exceed the
            best span's by more than this. None: every question has an answer.

    Raises:
        InputError: the logits are not those of the dataset's windows.
    """
    _check_logits(dataset, logits)
    check_length("max_answer_length", max_answer_length, 1, "an answer")
    best = [(-np.inf, "")] * len(dataset.contexts)
    null = np.full(len(dataset.contexts), np.inf)
    for window, row in enumerate(dataset.of_row):
        values, characters = np.asarray(logits[window], np.float32), dataset.characters[window]
        inside = values[dataset.first[window] : dataset.first[window] + len(characters)]
        score, start, end = _best_span(inside, max_answer_length)
        if score > best[row][0]:
            best[row] = score, dataset.contexts[row][characters[start, 0] : characters[end, 1]].strip()
        null[row] = min(null[row], values[0].sum())
    if null_threshold is None:
        return [text for _, text in best]
    return ["" if none - score > null_threshold else text for none, (score, text) in zip(null, best, strict=True)]


def _best_span(logits: np.ndarray, longest: int) -> tuple[float, int, int]:
    """The score, first and last token of the best span of at most so many tokens."""
    scores = logits[:, None, 0] + logits[None, :, 1]
    width = np.arange(len(logits)) - np.arange(len(logits))[:, None]
    scores = np.where((width >= 0) & (width < longest), scores, -np.inf)
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[start, end]), int(start), int(end)


def _windows(tokenizer: Any, table: Table, max_length: int, stride: int) -> tuple[np.ndarray, list[_Window]]:
    of_row: list[int] = []
    windows: list[_Window] = []
    for start in range(0, len(table), _CHUNK):
        encoded = tokenizer(
            list(table["question"][start : start + _CHUNK]),
            list(table["context"][start : start + _CHUNK]),
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            padding=False,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        of_row += [start + row for row in encoded["overflow_to_sample_mapping"]]
        kinds = encoded.get("token_type_ids")
        for place, ids in enumerate(encoded["input_ids"]):
            inside = [token for token, part in enumerate(encoded.sequence_ids(place)) if part == 1]
            if not inside:
                raise InputError(f"the tokenizer finds no token in the context of {table.where(of_row[len(windows)])}")
            characters = np.array(encoded["offset_mapping"][place][inside[0] : inside[-1] + 1])
            windows.append(_Window(ids, None if kinds is None else kinds[place], inside[0], characters))
    return np.array(of_row), windows


def _context_mask(window: _Window) -> np.ndarray:
    mask = np.zeros(len(window.ids), np.int32)
    mask[window.first : window.first + len(window.characters)] = 1
    return mask


def _labels(windows: list[_Window], answers: list[list[tuple[str, int]]]) -> np.ndarray:
    firsts = [found[0] if found else None for found in answers]
    return np.array([_tokens_of(*pair) for pair in zip(windows, firsts, strict=True)], np.int32)


def _tokens_of(window: _Window, answer: tuple[str, int] | None) -> tuple[int, int]:
    """The first and last token that hold the answer, or 0, 0 when the window does not hold all of it."""
    if answer is None:
        return 0, 0
    # Blanks at the ends of an answer belong to no token.
    text, start = answer[0].rstrip(), answer[1] + len(answer[0]) - len(answer[0].lstrip())
    end = answer[1] + len(text)
    starts, ends = window.characters.T
    touched = np.flatnonzero((starts < end) & (ends > start))
    # A token may begin with the blank before its word, so whole means no character of the answer is left out.
    if not len(touched) or starts[touched[0]] > start or ends[touched[-1]] < end:
        return 0, 0
    return window.first + int(touched[0]), window.first + int(touched[-1])


def _pairs(answers: Any, starts: Any, where: str) -> list[tuple[str, int]]:
    if isinstance(answers, Mapping):
        answers, starts = answers.get("text"), answers.get("answer_start")
    if isinstance(answers, str | None):
        answers, starts = ([], []) if answers is None else ([answers], [starts])
    if starts is None and answers is not None and not len(answers):
        starts = []
    if isinstance(starts, int):
        starts = [starts]
    if answers is None or starts is None or len(answers) != len(starts):
        raise InputError(
            f"each answer needs the character it starts at, but {where} has answers {answers!r} and answer_start "
            f"{starts!r}"
        )
    return list(zip(answers, starts, strict=True))


def _check_answer(table: Table, row: int, text: Any, place: Any) -> None:
    where, context = table.where(row), table["context"][row]
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"an answer is blank or no text in {where}; leave the list of answers empty if there is none")
    if isinstance(place, bool) or not isinstance(place, int | np.integer) or place < 0:
        raise InputError(f"an answer starts at a character counted from 0, but {where} says {place!r}")
    stands = context[place : place + len(text)]
    if stands != text:
        asked = f" to {table['question'][row]!r}" if "question" in table else ""
        near = context.find(text)
        hint = (
            f"; it stands at {near}"
            if near >= 0
            else "; it stands nowhere in it: give the words as the context has them, or an empty list of answers"
        )
        raise InputError(
            f"the answer {text!r}{asked} does not stand at character {place} of the context in {where}; "
            f"there stands {stands!r}{hint}"
        )


def _check_room(tokenizer: Any, table: Table, max_length: int, stride: int) -> None:
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 0:
        raise InputError(f"stride must be a whole number of tokens from 0 up, got {stride}")
    special = tokenizer.num_special_tokens_to_add(pair=True)
    check_length("max_length", max_length, special + 2, "a question and a context")
    for row, question in enumerate(ids_of(tokenizer, table["question"], special=False)):
        room = max_length - special - len(question)
        if room <= stride:
            raise InputError(
                f"the question in {table.where(row)} has {len(question)} tokens, so a window of {max_length} leaves "
                f"{max(room, 0)} for the context, not more than the stride of {stride}; use a longer max_length or a "
                "smaller stride"
            )


def _check_logits(dataset: SpanDataset, logits: np.ndarray | Sequence[np.ndarray]) -> None:
    if len(logits) != len(dataset):
        raise InputError(f"expected logits of {len(dataset)} windows, one row each, got {len(logits)}")
    lengths = dataset.lengths
    for window, values in enumerate(logits):
        shape = np.shape(values)
        if len(shape) != 2 or shape[1] != 2 or (lengths is not None and shape[0] < lengths[window]):
            least = "" if lengths is None else f", at least {lengths[window]} tokens"
            raise InputError(f"expected logits [length, 2] of window {window + 1}{least}, got {list(shape)}")
        if np.isnan(values).any():
            raise InputError(f"the logits of window {window + 1} are NaN: the model's params hold NaN, or it overflows")
