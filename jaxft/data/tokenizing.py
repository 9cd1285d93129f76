"""What every preparation asks of a tokenizer and a table before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxft.data.table import Table, check_texts
from jaxft.errors import InputError

IGNORED = -100
"""The label of a token that no objective and no metric counts."""


def as_texts(texts: Table | Sequence[str], name: str = "text") -> Table:
    """A checked table with a column of texts, made of a list of texts if it is none.

    Args:
        texts: a table with the column, or the texts themselves.
        name: the column's name.

    Raises:
        InputError: there is no text, or one is blank or no text.

    Example:
        >>> as_texts(["good", "bad"])["text"]
        ('good', 'bad')
    """
    if isinstance(texts, str):
        raise InputError(f"expected a table or a list of texts, got one text {texts[:40]!r}; put it in a list")
    table = texts if isinstance(texts, Table) else Table.of({name: texts})
    check_texts(Table.of({"text": table[name]}, table.source) if name != "text" else table)
    return table


def check_tokenizer(tokenizer: Any) -> None:
    """Refuses the None of a model that came without a tokenizer.

    Raises:
        InputError: it is None.
    """
    if tokenizer is None:
        raise InputError(
            "expected a tokenizer, got None: the model came without tokenizer files that can be read, and a warning "
            "told why if there were others; put a tokenizer.json beside its config.json"
        )


def check_fast(tokenizer: Any, why: str) -> None:
    """Refuses a tokenizer that cannot say which characters a token stands for.

    Args:
        tokenizer: a Hugging Face tokenizer.
        why: what needs it, for the message.

    Raises:
        InputError: it is no fast tokenizer.
    """
    check_tokenizer(tokenizer)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{why} needs a fast tokenizer, one with a tokenizer.json, as it asks which characters a token stands for; "
            f"got {type(tokenizer).__name__}"
        )


def check_length(name: str, length: int, least: int, why: str) -> None:
    """Refuses a length in tokens that leaves no room.

    Args:
        name: the argument's name, for the message.
        length: what was given.
        least: the smallest that makes sense.
        why: what needs the room.

    Raises:
        InputError: the length is no whole number, or too small.

    Example:
        >>> check_length("max_length", 1, 2, "a prompt and a completion")
        Traceback (most recent call last):
        ...
        jaxft.errors.InputError: max_length must be a whole number from 2 up to hold a prompt and a completion, got 1
    """
    if isinstance(length, bool) or not isinstance(length, int) or length < least:
        raise InputError(f"{name} must be a whole number from {least} up to hold {why}, got {length}")


def pad_id(tokenizer: Any) -> int:
    """The id that pads rows, or 0 when the tokenizer has none: padding is never attended to."""
    return getattr(tokenizer, "pad_token_id", None) or 0


def ids_of(tokenizer: Any, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
    """The tokens of texts, neither cut nor padded.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: the texts.
        special: whether it adds its special tokens.
    """
    check_tokenizer(tokenizer)
    # Truncation is set off by name, as a fast tokenizer keeps what its last call set.
    encoded = tokenizer(
        list(texts),
        add_special_tokens=special,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )
    return [list(ids) for ids in encoded["input_ids"]]
