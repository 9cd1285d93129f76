"""Bottleneck adapters: two small dense layers behind, or beside, a sub-layer of a frozen transformer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.added import graft, kernels, nested
from jaxft.adapt.lowrank import uniform_columns
from jaxft.adapt.options import check_size
from jaxft.errors import InputError
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params, PyTree

ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "tanh")
AFTER_BOTH = "**/{attention/output,feed_forward/down}/kernel"
AFTER_FEED_FORWARD = "**/feed_forward/down/kernel"


def bottleneck(selector: Choice, *, size: int = 64, activation: str = "gelu") -> Adaptation:
    """Trains two small dense layers on the output of each selected sub-layer.

    h' = h + W_up f(W_down h + b_down) + b_up

    h is what the sub-layer gives, dropout included, before the residual sum. W_down starts uniform in ±1/√dim, all
    else at zero, so that the adapted model starts as the base model. The leaves are at
    ``…/bottleneck/<activation>/{down,up}/{kernel,bias}`` beside the kernel: a slot that the transformers of
    ``load_model`` have at the last dense layer of each sub-layer. In training, a step refuses a model without it.

    Args:
        selector: those kernels, of ``attention/output``, ``cross_attention/output`` and ``feed_forward/down``.
        size: the dimension in the middle.
        activation: f, one of "gelu", "gelu_new", "relu", "silu" and "tanh".

    Raises:
        InputError: a size below one, an unknown activation, or at ``init`` a selector that matches nothing or anything
            but kernels [inputs, outputs].

    Example:
        >>> params = {"feed_forward": {"down": {"kernel": jnp.ones((12, 4)), "bias": jnp.zeros(4)}}}
        >>> frozen, delta = bottleneck("**/down/kernel", size=2).init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta["feed_forward"]["down"]["bottleneck"]["gelu"]["up"])
        {'bias': (4,), 'kernel': (2, 4)}

    References:
        Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019.
    """
    return _adapters("bottleneck", "bottleneck", selector, size, activation, 1.0)


def houlsby(*, size: int = 64, activation: str = "gelu") -> Adaptation:
    """Bottleneck adapters behind self-attention and feed-forward of every layer.

    The paper trains the norms of the layers and the head too: ``chain(houlsby(), tune("{**/norm,head}/**"))``.

    Args:
        size: the dimension in the middle.
        activation: f, as :func:`bottleneck` says.

    Raises:
        InputError: as :func:`bottleneck`.

    Example:
        >>> kernels = {"attention/output": jnp.ones((4, 4)), "feed_forward/down": jnp.ones((12, 4))}
        >>> params = nested({f"encoder/layer_0/{path}/kernel": kernel for path, kernel in kernels.items()})
        >>> frozen, delta = houlsby(size=2).init(jax.random.key(0), params)
        >>> sum(leaf.size for leaf in jax.tree.leaves(delta))
        44

    References:
        Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019.
    """
    return _adapters("houlsby", "bottleneck", AFTER_BOTH, size, activation, 1.0)


def pfeiffer(*, size: int = 48, activation: str = "relu") -> Adaptation:
    """Bottleneck adapters behind the feed-forward of every layer only.

    Args:
        size: the dimension in the middle; the paper's is a sixteenth of a BERT's 768.
        activation: f, as :func:`bottleneck` says.

    Raises:
        InputError: as :func:`bottleneck`.

    Example:
        >>> params = {"feed_forward": {"down": {"kernel": jnp.ones((12, 4)), "bias": jnp.zeros(4)}}}
        >>> frozen, delta = pfeiffer(size=2).init(jax.random.key(0), {"encoder": params})
        >>> sum(leaf.size for leaf in jax.tree.leaves(delta))
        22

    References:
        Pfeiffer et al., "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", 2021.
    """
    return _adapters("pfeiffer", "bottleneck", AFTER_FEED_FORWARD, size, activation, 1.0)


def parallel_adapter(
    selector: Choice = AFTER_FEED_FORWARD,
    *,
    size: int = 512,
    scale: float | Array = 4.0,
    activation: str = "relu",
) -> Adaptation:
    """Trains two small dense layers beside each selected sub-layer, on its input.

    h' = h + s (W_up f(W_down x + b_down) + b_up)

    x is what the sub-layer reads, under its norm if that comes first. It starts as :func:`bottleneck` does; the leaves
    are at ``…/parallel/<activation>/{down,up}/{kernel,bias}`` beside the kernel, and ``bind`` multiplies those of
    ``up`` by s, so that the model need not know it.

    Args:
        selector: the last kernels of those sub-layers, such as ``"**/attention/output/kernel"``.
        size: the dimension in the middle.
        scale: s; may be traced.
        activation: f, as :func:`bottleneck` says.

    Raises:
        InputError: as :func:`bottleneck`.

    Example:
        >>> params = {"feed_forward": {"down": {"kernel": jnp.ones((12, 4)), "bias": jnp.zeros(4)}}}
        >>> frozen, delta = parallel_adapter(size=2).init(jax.random.key(0), {"encoder": params})
        >>> sum(leaf.size for leaf in jax.tree.leaves(delta))
        22

    References:
        He et al., "Towards a Unified View of Parameter-Efficient Transfer Learning", 2022.
    """
    return _adapters("parallel_adapter", "parallel", selector, size, activation, scale)


def _adapters(method: str, slot: str, selector: Choice, size: int, activation: str, scale: float | Array) -> Adaptation:
    check_size(size, method, "size")
    if activation not in ACTIVATIONS:
        raise InputError(f"{method} expects an activation among {', '.join(ACTIVATIONS)}, but got {activation!r}")

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        trees = {}
        for index, (path, leaf) in enumerate(kernels(selector, params, method).items()):
            parts = _start(jax.random.fold_in(key, index), leaf.shape[1], size, leaf.dtype)
            trees[f"{path.removesuffix('/kernel')}/{slot}/{activation}"] = parts
        return params, nested(trees)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        del key

        def scaled(path: Any, leaf: Array) -> Array:
            return (leaf * scale).astype(leaf.dtype) if path[-2].key == "up" else leaf

        plain = isinstance(scale, float) and scale == 1
        return graft(frozen, delta if plain else jax.tree_util.tree_map_with_path(scaled, delta))

    return Adaptation(init, bind)


def _start(key: Key, dim: int, size: int, dtype: Any) -> PyTree:
    down = uniform_columns(key, (dim,), size, dim**-0.5).astype(dtype)
    return {
        "down": {"kernel": down, "bias": jnp.zeros(size, dtype)},
        "up": {"kernel": jnp.zeros((size, dim), dtype), "bias": jnp.zeros(dim, dtype)},
    }
