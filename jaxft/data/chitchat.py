"""The packaged chitchat: conversations of two people about anything."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from jaxft.data.held_out import TrainTest, split_by_key
from jaxft.data.table import Table
from jaxft.files import fetch, read_json_object

_ROLES = ("user", "assistant")


def chitchat() -> TrainTest:
    r"""The 4,017 conversations in which both speak: 3,148 to train on and 869 to test on.

    Columns: ``messages``, a list of ``{"role": …, "content": …}`` in which "user", who spoke first, and "assistant"
    take turns, and ``id``. What one person wrote in a row is one message, its parts on lines of their own. The
    package's other 3,151 conversations are openings that nobody answered. A row is a test row when the sha256 of its
    id, as an integer, is a multiple of five. Licence: MIT.

    Raises:
        InputError: the asset cannot be fetched.

    Example:
        >>> for message in chitchat().train["messages"][0][:2]:
        ...     print(message)
        {'role': 'user', 'content': 'Hello\nHow are you doing today?'}
        {'role': 'assistant', 'content': 'whats up MD\nim doing good\nhow are you doing?'}

    References:
        Myers et al. (2020), Conversational Scaffolding: An Analogy-Based Approach to Response Prioritization in
        Open-Domain Dialogs.
    """
    conversations = read_json_object(fetch("chitchat") / "dataset.json")
    messages = {identity: _messages(held["messages"]) for identity, held in conversations.items()}
    answered = {identity: turns for identity, turns in messages.items() if len(turns) > 1}
    table = Table.of({"messages": list(answered.values()), "id": list(answered)}, "chitchat")
    return split_by_key(table, table["id"])


def _messages(turns: list[list[dict[str, Any]]]) -> list[dict[str, str]]:
    said = [(part["sender"], part["text"].strip()) for turn in turns for part in turn if part["text"].strip()]
    return [
        {"role": _ROLES[place % 2], "content": "\n".join(text for _, text in parts)}
        for place, (_, parts) in enumerate(groupby(said, key=lambda part: part[0]))
    ]
