"""Generation from texts and conversations to texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.generation.generate import generate
from jaxft.types import Key, Model, Params

_MULTIPLE = 16
Conversation = Sequence[Mapping[str, str]]


def encode_prompts(model: Model, prompts: Sequence[str], *, special: bool = True) -> dict[str, np.ndarray]:
    """Tokens of prompts, padded to a multiple of 16, so that few shapes are compiled.

    Prompts that are continued are padded on the left, those that an encoder reads on the right.

    Args:
        model: with a tokenizer.
        prompts: texts.
        special: whether the tokenizer adds its special tokens, but for the end of a text that is continued; a chat
            template has written its own.

    Raises:
        InputError: no tokenizer, no prompt, or a prompt without a token.

    Example:
        >>> import jaxft as ft
        >>> batch = encode_prompts(ft.load_model("smollm2", task="lm"), ["One", "One two three"])
        >>> batch["input_ids"].shape, batch["attention_mask"].sum(axis=1).tolist()
        ((2, 16), [1, 3])
    """
    if model.tokenizer is None:
        raise InputError(
            "the model comes without tokenizer files: put its tokenizer.json beside them, or encode the prompts"
        )
    if isinstance(prompts, str) or not len(prompts):
        raise InputError("expected a list of prompts with at least one, such as ['Once upon a time']")
    rows = [list(ids) for ids in model.tokenizer(list(prompts), add_special_tokens=special, verbose=False)["input_ids"]]
    if special and not _is_answer(model):
        rows = [ids[:-1] if ids[1:] and ids[-1] == model.tokenizer.eos_token_id else ids for ids in rows]
    if empty := [row for row, ids in enumerate(rows) if not ids]:
        raise InputError(f"prompt {empty[0] + 1} has no token: there is nothing to continue")
    longest = max(map(len, rows))
    length = min(-(-longest // _MULTIPLE) * _MULTIPLE, max(model.config.max_positions, longest))
    ids, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), np.int32)
    for row, found in enumerate(rows):
        start = 0 if _is_answer(model) else length - len(found)
        ids[row, start : start + len(found)], mask[row, start : start + len(found)] = found, 1
    return {"input_ids": ids, "attention_mask": mask}


def _is_answer(model: Model) -> bool:
    """Whether an encoder reads the prompts, ends included; a prompt to be continued has no end."""
    return model.config.task == "seq2seq"


def complete(
    model: Model,
    prompts: Sequence[str],
    *,
    params: Params | None = None,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_tokens: Sequence[int] | None = None,
    key: Key | None = None,
) -> list[str]:
    """The texts that continue prompts, or answer them for a model with an encoder.

    Args:
        model: loaded with ``task="lm"`` or ``"seq2seq"``, with a tokenizer.
        prompts: texts.
        params: as in :func:`generate`, and so are the others.
        max_new_tokens: the most tokens a text gets.
        temperature: 0 takes the likeliest token.
        top_k: draw among so many tokens only.
        top_p: draw among tokens of this probability only.
        stop_tokens: end a text, and are left out of it.
        key: of the draws.

    Raises:
        InputError: as :func:`generate`, or a prompt without a token.

    Example:
        >>> import jaxft as ft
        >>> complete(ft.load_model("smollm2", task="lm"), ["The capital of France is"], max_new_tokens=2)
        [' Paris.']
    """
    return _texts(
        model,
        encode_prompts(model, prompts),
        params=params,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop_tokens=stop_tokens,
        key=key,
    )


def _texts(model: Model, batch: Mapping[str, np.ndarray], **options: Any) -> list[str]:
    found = generate(model, batch, **options)
    kept = found.lengths - found.stopped
    return [
        model.tokenizer.decode(tokens[:count], skip_special_tokens=True)
        for tokens, count in zip(found.tokens, kept, strict=True)
    ]


def reply(model: Model, conversations: Sequence[Conversation], **options: Any) -> list[str]:
    """What the assistant says next in each conversation, through the tokenizer's chat template.

    Args:
        model: loaded with ``task="lm"``, whose tokenizer has a chat template.
        conversations: lists of messages ``{"role": "user", "content": "…"}``.
        options: those of :func:`generate`.

    Raises:
        InputError: no chat template, a message that is none, or as :func:`complete`.

    Example:
        >>> import jaxft as ft
        >>> question = [{"role": "user", "content": "What is the capital of France?"}]
        >>> reply(ft.load_model("smollm2", task="lm"), [question], max_new_tokens=12)
        ['The capital of France is Paris.']
    """
    return _texts(model, encode_prompts(model, chat_prompts(model, conversations), special=False), **options)


def chat_prompts(model: Model, conversations: Sequence[Conversation]) -> list[str]:
    """Conversations as texts up to where the assistant speaks, through the tokenizer's chat template.

    Args:
        model: whose tokenizer has a chat template.
        conversations: lists of messages ``{"role": "user", "content": "…"}``.

    Raises:
        InputError: no chat template, a message that is none, or a conversation that the template refuses.
    """
    from jinja2 import TemplateError

    if not getattr(model.tokenizer, "chat_template", None):
        raise InputError("the model's tokenizer has no chat template: build the prompts yourself and call complete")
    for number, conversation in enumerate(conversations, start=1):
        if not conversation or not all(
            isinstance(message, Mapping)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in conversation
        ):
            raise InputError(
                f"conversation {number} must be a list of messages such as {{'role': 'user', 'content': '…'}}; "
                f"got {conversation!r:.200}"
            )
    try:
        return [
            model.tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True)
            for conversation in conversations
        ]
    except TemplateError as error:
        raise InputError(f"the chat template refuses a conversation: {error}") from error
