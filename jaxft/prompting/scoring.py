"""How likely a decoder finds each label behind a prompt, which it reads once for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.generation.text import encode_prompts
from jaxft.models.cache import empty_cache
from jaxft.models.slots import taken
from jaxft.types import Array, Model, Params
from jaxft.weights import lift

REDUCTIONS = ("mean", "sum")


class _Structure(NamedTuple):
    """What another program is compiled for."""

    apply: Callable[..., Any]
    sizes: tuple[int, int, int]
    dtype: Any


class _Labels(NamedTuple):
    """Tokens of the continuations ``[labels, length]``, padded on the right, and which are none."""

    ids: np.ndarray
    mask: np.ndarray


def score(
    model: Model,
    prompts: Sequence[str],
    continuations: Sequence[str],
    *,
    reduce: str = "mean",
    params: Params | None = None,
    batch_size: int = 8,
) -> np.ndarray:
    """Log-probability of each continuation behind each prompt, ``[prompts, continuations]``.

    s = Σ_i log p(y_i | x, y_<i), over the tokens of y: their sum, or their mean

    A prompt is read once, whatever the number of continuations: these share its keys and values. Prompts of any lengths
    go together, padded on the left to a multiple of 16.

    Args:
        model: of `load_model`, with task="lm" and its tokenizer.
        prompts: texts, each at least one token.
        continuations: texts, with the space before them if there is one.
        reduce: "mean" divides by the number of tokens, "sum" does not.
        params: bound to an adaptation; the model's own if None.
        batch_size: prompts that are read at once; times the continuations they stand in memory.

    Raises:
        InputError: a model of another task or without a tokenizer; a continuation without a token; a prompt that does
            not fit; a reduction that there is not.

    Example:
        >>> import jaxft as ft
        >>> model = ft.load_model("smollm2", task="lm")
        >>> found = score(model, ["The capital of France is"], [" Paris", " Rome", " a very old town"])
        >>> found.shape, int(found.argmax())
        ((1, 3), 0)

    References:
        Brown et al., "Language Models are Few-Shot Learners", 2020.
    """
    if reduce not in REDUCTIONS:
        raise InputError(f"reduce is one of {', '.join(REDUCTIONS)}, but is {reduce!r}")
    sizes = check_decoder(model)
    labels = _encoded(model, continuations)
    params = model.params if params is None else params
    batch = encode_prompts(model, prompts)
    _check_room(model, params, batch["attention_mask"].sum(axis=1), labels)
    program = _program(_Structure(model.apply, sizes, jnp.dtype(model.config.dtype)))
    found = [
        np.asarray(program(params, ids, mask, labels.ids, labels.mask))[:rows]
        for rows, ids, mask in _cut(batch, batch_size)
    ]
    totals = np.concatenate(found).astype(np.float64)
    return totals / labels.mask.sum(axis=1) if reduce == "mean" else totals


@functools.lru_cache(maxsize=16)
def _program(s: _Structure) -> Callable[..., Array]:
    """Sums of log-probabilities ``[batch, labels]``, of params, prompts, and labels with their masks."""
    apply = lift(s.apply)

    def run(params: Params, ids: Array, mask: Array, labels: Array, counts: Array) -> Array:
        (rows, length), (number, longest) = ids.shape, labels.shape
        prompt = taken(params).prompt
        cache = empty_cache(s.sizes, rows, prompt + length - 1 + longest, s.dtype)
        if length > 1 or prompt:
            seen = {"input_ids": ids[:, :-1], "attention_mask": mask[:, :-1], "cache": cache}
            cache = apply(params, seen).cache
        # Each label behind each prompt: the last token of the prompt, which says the first of the label, and the label.
        each = jax.tree.map(lambda x: jnp.repeat(x, number, axis=0) if jnp.ndim(x) else x, cache)
        tokens = jnp.concatenate([jnp.repeat(ids[:, -1:], number, axis=0), jnp.tile(labels[:, :-1], (rows, 1))], axis=1)
        real = jnp.concatenate([jnp.ones((number, 1), counts.dtype), counts[:, :-1]], axis=1)
        batch = {"input_ids": tokens, "attention_mask": jnp.tile(real, (rows, 1)), "cache": each}
        log_p = jax.nn.log_softmax(apply(params, batch).logits.astype(jnp.float32))
        chosen = jnp.take_along_axis(log_p, jnp.tile(labels, (rows, 1))[..., None], axis=-1)[..., 0]
        return jnp.sum(jnp.where(jnp.tile(counts, (rows, 1)) > 0, chosen, 0.0), axis=1).reshape(rows, number)

    return jax.jit(run)


def next_token_log_probabilities(
    model: Model, prompts: Sequence[str], *, params: Params | None = None, batch_size: int = 8
) -> np.ndarray:
    """Log-probabilities of the token behind each prompt, ``[prompts, vocabulary]`` in float32.

    Args:
        model: as of `score`.
        prompts: texts.
        params: bound to an adaptation; the model's own if None.
        batch_size: prompts that are read at once.

    Raises:
        InputError: as of `score`.

    Example:
        >>> import jaxft as ft
        >>> model = ft.load_model("smollm2", task="lm")
        >>> found = next_token_log_probabilities(model, ["The capital of France is"])
        >>> model.tokenizer.decode(found[0].argmax())
        ' Paris'
    """
    sizes = check_decoder(model)
    params = model.params if params is None else params
    batch = encode_prompts(model, prompts)
    one = _Labels(np.zeros((1, 1), np.int32), np.ones((1, 1), np.int32))
    _check_room(model, params, batch["attention_mask"].sum(axis=1), one)
    program = _behind(_Structure(model.apply, sizes, jnp.dtype(model.config.dtype)))
    found = [np.asarray(program(params, ids, mask))[:rows] for rows, ids, mask in _cut(batch, batch_size)]
    return np.concatenate(found)


@functools.lru_cache(maxsize=16)
def _behind(s: _Structure) -> Callable[..., Array]:
    apply = lift(s.apply)

    def run(params: Params, ids: Array, mask: Array) -> Array:
        rows, length = ids.shape
        prompt = taken(params).prompt
        cache = empty_cache(s.sizes, rows, prompt + length, s.dtype)
        if length > 1 or prompt:
            cache = apply(params, {"input_ids": ids[:, :-1], "attention_mask": mask[:, :-1], "cache": cache}).cache
        last = {"input_ids": ids[:, -1:], "attention_mask": mask[:, -1:], "cache": cache}
        return jax.nn.log_softmax(apply(params, last).logits[:, -1].astype(jnp.float32))

    return jax.jit(run)


def check_decoder(model: Model) -> tuple[int, int, int]:
    """The sizes of the cache of a model that continues texts.

    Raises:
        InputError: it does not.
    """
    sizes = getattr(model.config, "cache_sizes", None)
    if sizes is None or model.config.task != "lm":
        kind = getattr(model.config, "family", type(model.config).__name__)
        raise InputError(
            f'prompting needs a decoder loaded with task="lm"; this is a {kind} with '
            f"task={getattr(model.config, 'task', None)!r}"
        )
    found: tuple[int, int, int] = sizes
    return found


def _encoded(model: Model, continuations: Sequence[str]) -> _Labels:
    if isinstance(continuations, str) or not len(continuations):
        raise InputError("expected a list of continuations with at least one, such as [' good', ' bad']")
    if model.tokenizer is None:
        raise InputError("the model comes without tokenizer files, so that labels have no tokens")
    rows = [list(ids) for ids in model.tokenizer(list(continuations), add_special_tokens=False)["input_ids"]]
    if empty := [text for text, ids in zip(continuations, rows, strict=True) if not ids]:
        raise InputError(f"the label {empty[0]!r} tokenises to nothing: give it a word")
    longest = max(map(len, rows))
    ids, mask = np.zeros((len(rows), longest), np.int32), np.zeros((len(rows), longest), np.int32)
    for row, found in enumerate(rows):
        ids[row, : len(found)], mask[row, : len(found)] = found, 1
    return _Labels(ids, mask)


def _cut(batch: Mapping[str, np.ndarray], size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Prompts padded on the left in batches of one size: how many rows are real, tokens and mask.

    The last row fills a batch up. Each is as long as its longest prompt, a multiple of 16 where there is so much.
    """
    if size < 1:
        raise InputError(f"batch_size is a whole number from 1 up, but is {size}")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for start in range(0, len(ids), size):
        rows = np.arange(start, min(start + size, len(ids)))
        width = min(-(-int(mask[rows].sum(axis=1).max()) // 16) * 16, mask.shape[1])
        full = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
        yield len(rows), ids[full, -width:], mask[full, -width:]


def _check_room(model: Model, params: Params, lengths: np.ndarray, labels: _Labels) -> None:
    slots = taken(params)
    most = model.config.max_positions - slots.prompt - slots.decoder
    need = int(lengths.max()) + labels.ids.shape[1]
    if need > most:
        raise InputError(
            f"prompt {int(lengths.argmax()) + 1} and the longest label have {need} tokens, but the model has {most} "
            "positions: take fewer shots or shorter texts"
        )
