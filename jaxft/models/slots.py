"""Slots: places in the params where a model looks for computation that an adaptation may have added, and uses it.

Beside the last kernel of a sub-layer, ``…/{attention,cross_attention}/output`` and ``…/feed_forward/down``, with the
output h of the sub-layer and its input x, under its norm if that comes first:

- ``bottleneck/<activation>/{down,up}/{kernel,bias}``: h + W_up f(W_down h);
- ``parallel/<activation>/{down,up}/{kernel,bias}``: h + W_up f(W_down x).

``…/{attention,cross_attention}/prefix/{key,value}`` ``[length, kv_heads · head_dim]``: keys and values that every query
sees before all others. Those of self-attention take the first positions: the tokens' positions count on from the
longest.

``embeddings/prompt`` ``[length, dim]``: rows before those of the words of each text. Outputs have no place for them,
but for ``attentions``; "cls" and "first" are the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxft.errors import InputError
from jaxft.models.layers import ACTIVATION_FUNCTIONS, affine, cast


def find(module: nn.Module, path: str) -> Any:
    """What the params of a module hold at a path; None where there is nothing."""
    return _at(module.variables.get("params", {}), path)


def _at(node: Any, path: str) -> Any:
    for name in path.split("/"):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node


class Taken(NamedTuple):
    """Places that slots take of those for tokens.

    Attributes:
        prompt: before the tokens that ``input_ids`` names.
        encoder: by the longest prefix of an encoder's layers; 0 without an encoder.
        decoder: so of a decoder.
    """

    prompt: int = 0
    encoder: int = 0
    decoder: int = 0


def taken(params: Any) -> Taken:
    """The places that the slots of a model take.

    Example:
        >>> taken({"embeddings": {"prompt": jnp.zeros((5, 8))}, "decoder": {}})
        Taken(prompt=5, encoder=0, decoder=0)
    """
    prompt = _at(params, "embeddings/prompt")
    return Taken(
        0 if prompt is None else prompt.shape[0],
        prefix_length(_at(params, "encoder")),
        prefix_length(_at(params, "decoder")),
    )


def slots_of(module: nn.Module) -> Taken:
    """So for the module that is a whole model."""
    return taken(module.variables.get("params", {}))


def prefix_length(stack: Any) -> int:
    """Keys of the longest prefix among the self-attentions of a stack of layers."""
    layers = stack.values() if isinstance(stack, Mapping) else ()
    found = [_at(layer, "attention/prefix/key") for layer in layers]
    return max((key.shape[0] for key in found if key is not None), default=0)


def adapted(slots: Mapping[str, Any], output: Array, inputs: Array) -> Array:
    """A sub-layer's output through the adapters beside its last kernel."""
    changed = output
    for name, x in (("bottleneck", output), ("parallel", inputs)):
        if name in slots:
            changed = changed + _bottleneck(slots[name], x, name)
    return changed


def _bottleneck(tree: Mapping[str, Any], x: Array, name: str) -> Array:
    """W_up f(W_down x + b) + b; the tree says by its key which f."""
    if len(tree) != 1 or not set(tree) <= set(ACTIVATION_FUNCTIONS):
        raise InputError(
            f"a {name} adapter holds its layers under the name of one activation, one of "
            f"{', '.join(ACTIVATION_FUNCTIONS)}; this one has {', '.join(sorted(tree)) or 'nothing'}"
        )
    ((activation, layers),) = tree.items()
    down, up = ([cast(layers[part][leaf], x.dtype) for leaf in ("kernel", "bias")] for part in ("down", "up"))
    return affine(ACTIVATION_FUNCTIONS[activation](affine(x, *down)), *up)


def behind_prefix(prefix: Mapping[str, Any], key: Array, value: Array, mask: Array) -> tuple[Array, Array, Array]:
    """Keys and values ``[batch, kv_heads, places, head_dim]`` behind those of a prefix, which every query sees."""
    rows, heads, _, dim = key.shape
    learned = [
        jnp.broadcast_to(cast(prefix[name], key.dtype).reshape(1, -1, heads, dim).swapaxes(1, 2), (rows, heads, n, dim))
        for name, n in ((name, prefix[name].shape[0]) for name in ("key", "value"))
    ]
    key, value = (jnp.concatenate(pair, axis=2) for pair in zip(learned, (key, value), strict=True))
    return key, value, _padded(mask, learned[0].shape[2], True)


def behind_prompt(prompt: Array | None, words: Array) -> Array:
    """Rows of words ``[batch, length, dim]`` behind those of a prompt ``[places, dim]``."""
    if prompt is None:
        return words
    rows = jnp.broadcast_to(cast(prompt, words.dtype), (words.shape[0], *prompt.shape))
    return jnp.concatenate([rows, words], axis=1)


def extended(visible: Array, prompt: int) -> Array:
    """A mask of tokens ``[…, length]`` as one of the prompt, which is seen, and the tokens."""
    return _padded(visible, prompt, True)


def real_tokens(seen: Array, prompt: int) -> Array:
    """An extended mask without the places of the prompt, which are no tokens."""
    return _padded(seen[..., prompt:], prompt, False)


def without_prompt(states: Sequence[Array], prompt: int) -> tuple[Array, ...]:
    """States ``[batch, places, dim]`` of the tokens alone."""
    return tuple(state[:, prompt:] for state in states) if prompt else tuple(states)


def projections_without_prompt(
    projections: Sequence[tuple[Array, Array, Array]], prompt: int
) -> tuple[tuple[Array, ...], ...]:
    """Queries, keys and values ``[batch, heads, places, head_dim]`` of the tokens alone."""
    return tuple(tuple(part[:, :, prompt:] for part in layer) for layer in projections)


def _padded(mask: Array, count: int, value: bool) -> Array:
    widths = [(0, 0)] * (mask.ndim - 1) + [(count, 0)]
    return jnp.pad(mask, widths, constant_values=value) if count else mask
