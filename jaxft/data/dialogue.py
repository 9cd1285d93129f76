"""Conversations and prompts for a causal language model that learns the replies alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxft.data.dataset import Dataset
from jaxft.data.packing import one_a_row, packed, shifted
from jaxft.data.table import Table
from jaxft.data.tokenizing import as_texts, check_fast, check_length, ids_of, pad_id
from jaxft.errors import InputError

_SHOWN = 80


class _Rendered(NamedTuple):
    """A conversation as tokens, with those of the replies marked."""

    ids: list[int]
    replies: np.ndarray
    last: int  # where the last reply begins


def dialogue(
    tokenizer: Any,
    conversations: Table | Sequence[Sequence[Mapping[str, str]]],
    *,
    max_length: int,
    system: str | None = None,
    length: int | None = None,
) -> Dataset:
    """Renders conversations with the tokenizer's chat template; the assistant's replies and their ends are labels.

    A reply is what the template adds after the prompt for it, up to the last special token, so no template has to mark
    it; a token that also holds the prompt's end is none of it. What follows the last reply is left out. A conversation
    that is too long loses its oldest turns, though not its system message, so that what remains begins with the user;
    if its last exchange alone is too long, the tokens before the last reply are cut on the left, and then the reply on
    the right.

    Args:
        tokenizer: a fast Hugging Face tokenizer with a chat template.
        conversations: a list of messages ``{"role": …, "content": …}`` each, or a table with a column ``messages``.
        max_length: tokens a conversation may have; those cut are counted in ``truncated``.
        system: the system message of conversations that have none.
        length: pack conversations into rows of so many tokens, with ``segment_ids``; None: one a row.

    Raises:
        InputError: there is no chat template, or it changes earlier turns when later ones are added; a message has no
            role or content, or a conversation has no reply or begins with one.
    """
    check_fast(tokenizer, "marking replies in a conversation")
    if not getattr(tokenizer, "chat_template", None):
        raise InputError("the tokenizer has no chat template; set tokenizer.chat_template, or use ft.data.prompts")
    _check_lengths(max_length, length)
    table = conversations if isinstance(conversations, Table) else Table.of({"messages": list(conversations)})
    if not len(table):
        raise InputError(f"{table.source} has no conversation")
    ends = _special_ids(tokenizer)
    pieces, truncated = [], 0
    for row, held in enumerate(table["messages"]):
        messages = _messages(held, system, table.where(row))
        rendered, whole = _shortened(tokenizer, messages, ends, max_length, table.where(row))
        truncated += not whole
        cut = _window(len(rendered.ids), rendered.last, max_length)
        pieces.append((rendered.ids[cut], shifted(rendered.ids[cut], rendered.replies[cut])))
    return _rows(tokenizer, pieces, max_length, length, truncated)


def prompts(
    tokenizer: Any, table: Table, *, max_length: int, separator: str = "", length: int | None = None
) -> Dataset:
    """Prompts with completions to learn: labels are the completion's tokens and the end-of-sequence token.

    A prompt and its completion are tokenised apart, as they are when the model is asked. A row that is too long loses
    the beginning of its prompt, and then the end of its completion.

    Args:
        tokenizer: a Hugging Face tokenizer.
        table: columns ``prompt`` and ``completion``.
        max_length: tokens a row may have; rows that are cut are counted in ``truncated``.
        separator: put before every completion, such as " " or a line break.
        length: pack rows into rows of so many tokens, with ``segment_ids``; None: one a row.

    Raises:
        InputError: a text is blank, or a length leaves no room for a token of each.

    Example:
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> from transformers import PreTrainedTokenizerFast
        >>> words = Tokenizer(models.WordLevel({"<end>": 0, "two": 1, "and": 2, "four": 3}, unk_token="<end>"))
        >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
        >>> rows = prompts(tokenizer, Table.of({"prompt": ["two and two"], "completion": ["four"]}), max_length=8)
        >>> rows.columns["input_ids"].values.tolist(), rows.columns["labels"].values.tolist()
        ([1, 2, 1, 3, 0], [-100, -100, 3, 0, -100])
    """
    _check_lengths(max_length, length)
    for name in ("prompt", "completion"):
        as_texts(table, name)
    before = ids_of(tokenizer, table["prompt"])
    after = ids_of(tokenizer, [separator + text for text in table["completion"]], special=False)
    end = tokenizer.eos_token_id
    pieces, truncated = [], 0
    for row, (prompt, completion) in enumerate(zip(before, after, strict=True)):
        if end is not None:
            prompt, completion = prompt[: -1 if prompt[-1:] == [end] else None], [*completion, end]
        if not prompt or not completion:
            raise InputError(f"the tokenizer finds no token in the prompt or completion of {table.where(row)}")
        ids = prompt + completion
        cut = _window(len(ids), len(prompt), max_length)
        truncated += len(ids) > max_length
        pieces.append((ids[cut], shifted(ids[cut], (np.arange(len(ids)) >= len(prompt))[cut])))
    return _rows(tokenizer, pieces, max_length, length, truncated)


def _rows(
    tokenizer: Any, pieces: list[tuple[list[int], np.ndarray]], max_length: int, length: int | None, truncated: int
) -> Dataset:
    if length is None:
        return one_a_row(pieces, max_length=max_length, fill=pad_id(tokenizer), truncated=truncated)
    return packed(pieces, length=length, fill=pad_id(tokenizer), truncated=truncated)


def _window(tokens: int, reply: int, max_length: int) -> slice:
    """What is kept: all of the reply that fits with one token before it, and before that as much as there is room."""
    start = max(0, min(reply - 1, tokens - max_length))
    return slice(start, start + max_length)


def _check_lengths(max_length: int, length: int | None) -> None:
    check_length("max_length", max_length, 2, "a prompt and a reply")
    if length is not None:
        check_length("length", length, max_length, f"rows of max_length {max_length}")


def _messages(held: Any, system: str | None, where: str) -> list[dict[str, str]]:
    messages = []
    for number, message in enumerate(held if isinstance(held, Sequence) and not isinstance(held, str) else [held]):
        if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise InputError(
                f"a message is {{'role': …, 'content': …}}, both texts, but message {number + 1} in {where} is "
                f"{str(message)[:_SHOWN]}"
            )
        messages.append(dict(message))
    if system is not None and _systems(messages) == 0:
        messages.insert(0, {"role": "system", "content": system})
    replies = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if not replies:
        raise InputError(f"the conversation in {where} has no reply, no message whose role is 'assistant'; remove it")
    if messages[_systems(messages)]["role"] == "assistant":
        raise InputError(
            f"the conversation in {where} begins with a reply; a reply needs a message of the user before it"
        )
    return messages[: replies[-1] + 1]


def _systems(messages: Sequence[Mapping[str, str]]) -> int:
    return int(bool(messages) and messages[0]["role"] == "system")


def _shortened(
    tokenizer: Any, messages: list[dict[str, str]], ends: np.ndarray, max_length: int, where: str
) -> tuple[_Rendered, bool]:
    """As many of the last turns as fit, at least one exchange, and whether these are all and they fit."""
    rendered = _render(tokenizer, messages, ends, where)
    openings = _openings(messages)
    if len(rendered.ids) <= max_length or not openings:
        return rendered, len(rendered.ids) <= max_length

    def beginning(place: int) -> _Rendered:
        return _render(tokenizer, [*messages[: _systems(messages)], *messages[openings[place] :]], ends, where)

    low, high, best = 0, len(openings) - 1, beginning(len(openings) - 1)
    while low < high:  # the first place that fits, by bisection, as every rendering is slow
        middle = (low + high) // 2
        tried = beginning(middle)
        if len(tried.ids) <= max_length:
            high, best = middle, tried
        else:
            low = middle + 1
    return best, False


def _openings(messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Where a shortened conversation may begin: the user's turns after the first."""
    turns = range(_systems(messages) + 1, len(messages))
    return [turn for turn in turns if messages[turn]["role"] == "user" and messages[turn - 1]["role"] != "user"]


def _special_ids(tokenizer: Any) -> np.ndarray:
    added = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    return np.array([*added, *tokenizer.all_special_ids], np.int64)


def _render(tokenizer: Any, messages: list[dict[str, str]], ends: np.ndarray, where: str) -> _Rendered:
    text = _apply(tokenizer, messages, where)
    encoded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, padding=False, verbose=False
    )
    ids, characters = np.array(encoded["input_ids"]), np.array(encoded["offset_mapping"]).reshape(-1, 2)
    replies = np.zeros(len(ids), bool)
    last = 0
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start, end = _reply(tokenizer, messages, turn, text, where)
        inside = np.flatnonzero((characters[:, 0] >= start) & (characters[:, 0] < end))
        ending = np.flatnonzero(np.isin(ids[inside], ends))
        # What the template puts after the end of a reply belongs to nobody: generation has stopped there.
        inside = inside[: ending[-1] + 1] if len(ending) else inside
        if not len(inside):
            raise InputError(f"the tokenizer finds no token in message {turn + 1} of the conversation in {where}")
        replies[inside] = True
        last = int(inside[0])
    kept = int(np.flatnonzero(replies)[-1]) + 1
    return _Rendered(ids[:kept].tolist(), replies[:kept], last)


def _reply(tokenizer: Any, messages: list[dict[str, str]], turn: int, text: str, where: str) -> tuple[int, int]:
    """The characters of a reply in the rendered conversation: what follows the prompt for it."""
    prompt = _apply(tokenizer, messages[:turn], where, prompt=True)
    whole = _apply(tokenizer, messages[: turn + 1], where)
    for part in (prompt, whole):
        if not text.startswith(part):
            place = next((i for i, (a, b) in enumerate(zip(text, part, strict=False)) if a != b), len(text))
            raise InputError(
                f"the chat template changes earlier turns when message {turn + 1} or a later one is added to the "
                f"conversation in {where}: {part[place : place + _SHOWN]!r} becomes {text[place : place + _SHOWN]!r}; "
                "use a template that only appends"
            )
    return len(prompt), len(whole)


def _apply(tokenizer: Any, messages: list[dict[str, str]], where: str, *, prompt: bool = False) -> str:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        raise InputError(f"the chat template refuses the conversation in {where}: {error}") from error
