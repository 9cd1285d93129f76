"""A base model in few bits, under any adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.kept import open_kept
from jaxft.adapt.layout import layout
from jaxft.adapt.options import check_patterns
from jaxft.errors import InputError
from jaxft.trees import leaf_paths, map_with_path, select
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params
from jaxft.weights import int8, is_structured, materialise, nf4

KINDS = ("int8", "nf4")


def quantise(
    selector: Choice,
    *,
    kind: str = "int8",
    double: bool = False,
    axes: str | Mapping[str, str] | None = None,
) -> Adaptation:
    """Rounds the selected weights to few bits and freezes everything; nothing learns.

    int8:  W ≈ C · f,  f = max |W| / 127 of each output channel
    nf4:   W ≈ level[code] · absmax, of each block of 64 elements

    It is the first link of a chain, so that what follows adapts the model that is left:
    ``chain(quantise("**/kernel", kind="nf4"), lora("**/query/kernel"))`` is QLoRA. Each product dequantises its weight
    anew, forward and backward; only codes are kept.

    Args:
        selector: the weights to round: dense kernels, convolutions, embeddings.
        kind: ``"int8"``, a quarter of the bytes of float32, or ``"nf4"``, a seventh.
        double: whether the absmaxes of nf4 are rounded too, less their mean, to int8 in blocks of 256.
        axes: one letter for each axis of a weight as in `lora`; stacked axes are rounded one by one.

    Raises:
        InputError: an unknown kind, ``double`` with int8; or at ``init`` a selector that matches nothing, a weight
            that is no matrix or whose axes are not known, or that is quantised already.

    Example:
        >>> params = {"kernel": jnp.ones((64, 4)), "bias": jnp.ones(4)}
        >>> frozen, delta = quantise("kernel").init(jax.random.key(0), params)
        >>> frozen["kernel"].kind, frozen["kernel"].shape, delta
        ('int8', (64, 4), {'bias': None, 'kernel': None})

    References:
        Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", 2022.
        Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023.
    """
    if kind not in KINDS:
        raise InputError(f"quantise expects a kind of {', '.join(map(repr, KINDS))}, but got {kind!r}")
    if double and kind != "nf4":
        raise InputError(f"double quantises the absmaxes of nf4, which {kind} has not; leave it out or take kind='nf4'")

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        del key
        mask = select(selector, params)
        check_patterns(axes, [path for path, take in leaf_paths(mask).items() if take], "axes")

        def round_one(path: str, leaf: Any, take: bool) -> Any:
            if not take:
                return leaf
            if is_structured(leaf):
                raise InputError(f"quantise expects arrays, but {path!r} is {leaf.kind} already; quantise it first")
            stacked, inputs = map(len, layout(path, leaf, axes, "quantise")[:2])
            if kind == "nf4":
                return nf4(leaf, stacked=stacked, double=double)
            return int8(leaf, inputs=tuple(range(stacked, stacked + inputs)))

        frozen = map_with_path(round_one, params, mask, is_leaf=is_structured)
        return frozen, jax.tree.map(lambda _: None, mask)

    return Adaptation(init, _bind)


def _bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
    del delta, key
    return frozen


def quantisation_error(params: Params, frozen: Frozen) -> dict[str, Array]:
    """Returns for each weight kept in few bits how far it is from what it was: ‖W − Q(W)‖ / ‖W‖, Frobenius norms.

    Args:
        params: of the base model.
        frozen: as returned by the ``init`` of `quantise` or of a chain that begins with it.

    Raises:
        InputError: frozen has no weight kept in parts.

    Example:
        >>> params = {"kernel": jnp.eye(64), "bias": jnp.ones(64)}
        >>> quantisation_error(params, quantise("kernel", kind="nf4").init(jax.random.key(0), params)[0])
        {'kernel': Array(0., dtype=float32)}
    """
    before = leaf_paths(params, is_leaf=is_structured)
    found = leaf_paths(open_kept(frozen).params, is_leaf=is_structured)
    rounded = {path: leaf for path, leaf in found.items() if is_structured(leaf)}
    if not rounded:
        raise InputError("quantisation_error expects what quantise froze, but no weight is kept in parts here")
    return {path: _relative(before[path], leaf) for path, leaf in rounded.items()}


def _relative(w: Array, rounded: Any) -> Array:
    wide = w.astype(jnp.float32)
    size = jnp.linalg.norm(wide.reshape(-1))
    return jnp.linalg.norm((materialise(rounded).astype(jnp.float32) - wide).reshape(-1)) / jnp.where(size > 0, size, 1)
