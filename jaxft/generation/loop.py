"""The compiled loop: choose a token, write it down, show it to the decoder, until every row has ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxft.generation.sampling import sample
from jaxft.models.cache import Cache, empty_cache
from jaxft.models.slots import taken
from jaxft.types import Array, Key, Params


class Structure(NamedTuple):
    """What another program is compiled for.

    Attributes:
        apply: of the model.
        sizes: of its cache.
        dtype: of its cache.
        start: the first token of a decoder behind an encoder; None continues the prompt itself.
        new: the most tokens.
        sampled: tokens are drawn, else the likeliest is taken.
        top_k: draw among so many tokens only.
        has_top_p: draw among tokens of some probability only.
    """

    apply: Callable[..., Any]
    sizes: tuple[int, int, int]
    dtype: Any
    start: int | None
    new: int
    sampled: bool
    top_k: int | None
    has_top_p: bool


class Inputs(NamedTuple):
    """Arrays of one call: prompt and mask ``[batch, length]`` padded on the left, stop tokens, padding, rates, key."""

    ids: Array
    mask: Array
    stops: Array
    padding: Array
    temperature: Array
    top_p: Array
    key: Key


class State(NamedTuple):
    """Between two tokens.

    Attributes:
        step: tokens written.
        token: ``[batch]``, the last of each row, which the decoder has not seen.
        cache: of those it has.
        tokens: ``[batch, new]``.
        done: ``[batch]`` bool: a stop token was written.
        lengths: ``[batch]``: tokens up to it.
        sound: ``[batch]`` bool: no logit that chose a token was NaN.
    """

    step: Array
    token: Array
    cache: Cache
    tokens: Array
    done: Array
    lengths: Array
    sound: Array


@functools.lru_cache(maxsize=16)
def program(structure: Structure) -> Callable[[Params, Inputs], State]:
    """The loop as one compiled function of params and inputs."""

    def run(params: Params, inputs: Inputs) -> State:
        def going(state: State) -> Array:
            return (state.step < structure.new) & ~state.done.all()

        def body(state: State) -> State:
            logits, cache = _advance(structure, params, inputs, state)
            return _write(structure, inputs, logits, state._replace(cache=cache))

        return jax.lax.while_loop(going, body, _begin(structure, params, inputs))

    return jax.jit(run)


def _begin(s: Structure, params: Params, inputs: Inputs) -> State:
    """Shows the prompt to the decoder, all but its last token, behind a learned one; or to the encoder."""
    rows, length = inputs.ids.shape
    prompt = taken(params).prompt if s.start is None else 0
    room = s.new + (prompt + length if s.start is None else 1)
    state = State(
        step=jnp.int32(0),
        token=inputs.ids[:, -1],
        cache=empty_cache(s.sizes, rows, room, s.dtype),
        tokens=jnp.full((rows, s.new), inputs.padding, jnp.int32),
        done=jnp.zeros(rows, bool),
        lengths=jnp.zeros(rows, jnp.int32),
        sound=jnp.ones(rows, bool),
    )
    if s.start is None:
        if length == 1 and not prompt:
            return state
        seen = {"input_ids": inputs.ids[:, :-1], "attention_mask": inputs.mask[:, :-1], "cache": state.cache}
        return state._replace(cache=s.apply(params, seen).cache)
    first = jnp.full((rows, 1), s.start, jnp.int32)
    outputs = s.apply(
        params,
        {
            "input_ids": inputs.ids,
            "attention_mask": inputs.mask,
            "decoder_input_ids": first,
            "cache": state.cache,
        },
    )
    return _write(s, inputs, outputs.logits[:, -1], state._replace(cache=outputs.cache))


def _advance(s: Structure, params: Params, inputs: Inputs, state: State) -> tuple[Array, Cache]:
    """Shows the last token to the decoder; returns the logits of the next."""
    token = state.token[:, None]
    if s.start is None:
        batch: dict[str, Any] = {"input_ids": token, "attention_mask": jnp.ones_like(token)}
    else:
        batch = {"attention_mask": inputs.mask, "decoder_input_ids": token}
    outputs = s.apply(params, {**batch, "cache": state.cache})
    return outputs.logits[:, -1], outputs.cache


def _write(s: Structure, inputs: Inputs, logits: Array, state: State) -> State:
    """Chooses a token for each row that has not ended."""
    if s.sampled:
        chosen = sample(
            jax.random.fold_in(inputs.key, state.step),
            logits,
            temperature=inputs.temperature,
            top_k=s.top_k,
            top_p=inputs.top_p if s.has_top_p else None,
        )
    else:
        chosen = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    token = jnp.where(state.done, inputs.padding, chosen)
    return state._replace(
        step=state.step + 1,
        token=token,
        tokens=jax.lax.dynamic_update_slice(state.tokens, token[:, None], (0, state.step)),
        done=state.done | (token[:, None] == inputs.stops).any(axis=1),
        lengths=state.lengths + ~state.done,
        sound=state.sound & (state.done | ~jnp.isnan(logits).any(axis=-1)),
    )
