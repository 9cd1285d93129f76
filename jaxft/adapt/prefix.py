"""Prefix tuning: learned keys and values before those of the tokens, in every attention layer."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.added import graft, kernels, nested
from jaxft.adapt.options import check_rate, check_size, is_zero
from jaxft.errors import InputError
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params, PyTree

PARTS = ("key", "value")


def prefix(
    selector: Choice = "**/attention/key/kernel",
    *,
    length: int = 20,
    reparametrise: int | None = None,
    dropout: float | Array = 0.0,
) -> Adaptation:
    """Trains keys and values that every query of a layer sees before those of the tokens; the model is frozen.

    softmax(s Q [P_K; K]ᵀ) [P_V; V],  or with reparametrise  [P_K, P_V of every layer] = tanh(E W + b) W' + b'

    The prefix of self-attention takes the first positions, so that those of the tokens count on from it; its keys are
    used as they are, without rotary angles or norms. This is what Hugging Face PEFT computes, except where layers have
    a window: there it hides the prefix from later tokens, here never. All start as they do there: the prefix, or E,
    standard normal, the dense layers uniform in ±1/√(inputs). The model does not start as the base model. In the bound
    params the leaves are ``…/attention/prefix/{key,value}`` ``[length, kv_heads · head_dim]``; what learns under
    reparametrise is at ``prefix/{embedding,hidden,output}`` of the delta, where the outputs of ``output`` are the key,
    then the value, of each layer in turn.

    Args:
        selector: the kernels of the keys of the layers, ``"**/attention/key/kernel"``. In an encoder-decoder this is
            self-attention in both; ``"decoder/**/attention/key/kernel"`` is what PEFT chooses there, and layers of
            cross-attention may be named too.
        length: places of the prefix.
        reparametrise: the dimension of a dense layer that all layers share; None trains keys and values themselves.
        dropout: rate in [0, 1) on keys and values in training; may be traced.

    Raises:
        InputError: a length or dimension below one, a dropout rate outside [0, 1), or at ``init`` a selector that
            matches nothing or anything but kernels of keys.

    Example:
        >>> params = {"encoder": {"layer_0": {"attention": {"key": {"kernel": jnp.ones((6, 4))}}}}}
        >>> adaptation = prefix(length=3, reparametrise=5)
        >>> frozen, delta = adaptation.init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta["prefix"]["output"])
        {'bias': (8,), 'kernel': (5, 8)}
        >>> adaptation.bind(frozen, delta)["encoder"]["layer_0"]["attention"]["prefix"]["value"].shape
        (3, 4)

    References:
        Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", 2021.
    """
    check_size(length, "prefix", "length")
    if reparametrise is not None:
        check_size(reparametrise, "prefix", "reparametrise")
    check_rate(dropout, "prefix")

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        sizes = _places(selector, params)
        dtype = next(iter(kernels(selector, params, "prefix").values())).dtype
        if reparametrise is not None:
            dims = (length, next(iter(sizes.values())), reparametrise, sum(sizes.values()))
            return params, {"prefix": _shared(key, dims, dtype)}
        keys = jax.random.split(key, len(sizes))
        found = {
            path: jax.random.normal(one, (length, size)).astype(dtype)
            for one, (path, size) in zip(keys, sizes.items(), strict=True)
        }
        return params, nested(found)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        if reparametrise is not None:
            sizes = _places(selector, frozen)
            found, start = {}, 0
            flat = _computed(delta["prefix"])
            for path, size in sizes.items():
                found[path] = flat[:, start : start + size]
                start += size
            delta = nested(found)
        if key is not None and not is_zero(dropout):
            leaves, structure = jax.tree.flatten(delta)
            keys = jax.random.split(key, len(leaves))
            dropped = [_dropped(one, leaf, dropout) for one, leaf in zip(keys, leaves, strict=True)]
            delta = jax.tree.unflatten(structure, dropped)
        return graft(frozen, delta)

    return Adaptation(init, bind)


def _places(selector: Choice, params: Params) -> dict[str, int]:
    """The path and size of each prefix, by layer, its key before its value."""
    found = kernels(selector, params, "prefix")
    if wrong := [path for path in found if not f"/{path}".endswith("/key/kernel")]:
        raise InputError(f"prefix expects kernels of keys, …/attention/key/kernel, but {wrong[0]!r} is none")
    paths = sorted(found, key=_in_order)
    sizes = {path.removesuffix("key/kernel"): found[path].shape[1] for path in paths}
    return {f"{path}prefix/{part}": size for path, size in sizes.items() for part in PARTS}


def _in_order(path: str) -> list[tuple[str, int]]:
    """Sorts layer_2 before layer_10."""
    return [(name, int(number or 0)) for name, number in re.findall(r"(\D+)(\d*)", path)]


def _shared(key: Key, dims: tuple[int, int, int, int], dtype: Any) -> PyTree:
    length, dim, hidden, outputs = dims
    first, second, third = jax.random.split(key, 3)
    embedding = jax.random.normal(first, (length, dim)).astype(dtype)
    return {
        "embedding": embedding,
        "hidden": _dense(second, dim, hidden, dtype),
        "output": _dense(third, hidden, outputs, dtype),
    }


def _dense(key: Key, inputs: int, outputs: int, dtype: Any) -> dict[str, Array]:
    one, other = jax.random.split(key)
    bound = inputs**-0.5
    return {
        "kernel": jax.random.uniform(one, (inputs, outputs), jnp.float32, -bound, bound).astype(dtype),
        "bias": jax.random.uniform(other, (outputs,), jnp.float32, -bound, bound).astype(dtype),
    }


def _computed(shared: PyTree) -> Array:
    hidden, output = shared["hidden"], shared["output"]
    inner = jnp.tanh(shared["embedding"] @ hidden["kernel"] + hidden["bias"])
    return inner @ output["kernel"] + output["bias"]


def _dropped(key: Key, x: Array, rate: float | Array) -> Array:
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)
