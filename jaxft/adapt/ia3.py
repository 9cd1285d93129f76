"""IA3: one learned number for every channel of keys, values and feed-forward activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.adapt.layout import Layout, layout
from jaxft.adapt.options import check_patterns
from jaxft.errors import InputError
from jaxft.trees import leaf_paths, map_with_path, select
from jaxft.types import Adaptation, Array, Choice, Delta, Frozen, Key, Params
from jaxft.weights import is_structured, scaled

BIASES = ("bias", "b")
"""What the bias beside a kernel is called."""


def ia3(selector: Choice, *, inputs: Choice | None = None, axes: str | Mapping[str, str] | None = None) -> Adaptation:
    """Rescales the outputs of some kernels, and the inputs of others, by a learned vector.

    selected:  y = l ⊙ (x W + b)
    inputs:    y = (l ⊙ x) W + b

    l starts at one, so that the adapted model starts as the base model. The paper rescales keys, values and what the
    second matrix of a feed-forward layer reads: ``ia3("**/attention/{key,value}/kernel", inputs="**/down/kernel")``.

    Args:
        selector: the kernels whose outputs are rescaled, together with the leaf ``bias`` or ``b`` beside them.
        inputs: the kernels whose inputs are rescaled; of a convolution, the channels.
        axes: one letter for each axis of a weight as in `lora`; stacked axes have vectors of their own.

    Raises:
        InputError: at ``init``, a selector that matches nothing, a kernel that both select or whose axes are not
            known, or a bias that an earlier link of a chain trains.

    Example:
        >>> params = {"key": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}, "down": {"kernel": jnp.ones((8, 6))}}
        >>> frozen, delta = ia3("key/kernel", inputs="down/kernel").init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        {'down': {'kernel': {'l': (8, 1)}}, 'key': {'bias': None, 'kernel': {'l': (1, 4)}}}

    References:
        Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", 2022.
    """

    def init(key: Key, params: Params) -> tuple[Frozen, Delta]:
        del key
        outputs = select(selector, params)
        others = jax.tree.map(lambda _: False, outputs) if inputs is None else select(inputs, params)
        chosen = [path for mask in (outputs, others) for path, take in leaf_paths(mask).items() if take]
        check_patterns(axes, chosen, "axes")
        leaves = leaf_paths(params, is_leaf=_is_place)

        def start(path: str, leaf: Any, out: bool, into: bool) -> dict[str, Array] | None:
            if out and into:
                raise InputError(f"ia3 rescales the outputs of a kernel or its inputs, but both select {path!r}")
            if not (out or into):
                return None
            pieces = layout(path, leaf, axes, "ia3")
            if out:
                _check_bias(path, pieces, leaves)
            return {"l": jnp.ones(_of_outputs(pieces) if out else _of_inputs(pieces), leaf.dtype)}

        return params, map_with_path(start, params, outputs, others, is_leaf=is_structured)

    def bind(frozen: Frozen, delta: Delta, *, key: Key | None = None) -> Params:
        del key
        leaves, of_bias = leaf_paths(frozen, is_leaf=is_structured), {}
        for path, factor in leaf_paths(delta, is_leaf=_is_factor).items():
            bias = _bias(path, leaves)
            if bias and factor["l"].shape == _of_outputs(layout(path, leaves[path], axes, "ia3")):
                of_bias[bias] = factor["l"]

        def rescale(path: str, leaf: Any, factor: Any) -> Any:
            if factor is not None:
                return scaled(leaf, factor["l"])
            return leaf * of_bias[path].reshape(leaf.shape) if path in of_bias else leaf

        return map_with_path(rescale, frozen, delta, is_leaf=_is_place)

    return Adaptation(init, bind)


def _is_place(node: Any) -> bool:
    return node is None or is_structured(node)


def _is_factor(node: Any) -> bool:
    return isinstance(node, dict) and set(node) == {"l"} and hasattr(node["l"], "shape")


def _of_outputs(pieces: Layout) -> tuple[int, ...]:
    """The shape of l over the outputs, with the axes of W."""
    return (*pieces.stack, *(1 for _ in pieces.inputs), *pieces.outputs)


def _of_inputs(pieces: Layout) -> tuple[int, ...]:
    """The shape of l over the inputs: of a convolution (height, width, in) the last."""
    inputs = (1, 1, pieces.inputs[2]) if len(pieces.inputs) == 3 else pieces.inputs
    return (*pieces.stack, *inputs, *(1 for _ in pieces.outputs))


def _bias(path: str, leaves: Mapping[str, Any]) -> str | None:
    """The path of the bias beside a kernel, if there is one."""
    parent = path.rpartition("/")[0]
    beside = (f"{parent}/{name}" if parent else name for name in BIASES)
    return next((name for name in beside if name in leaves and name != path), None)


def _check_bias(path: str, pieces: Layout, leaves: Mapping[str, Any]) -> None:
    bias = _bias(path, leaves)
    if bias is None:
        return
    if leaves[bias] is None:
        raise InputError(
            f"ia3 rescales the outputs of {path!r} together with {bias!r}, which an earlier link of the chain trains; "
            "put ia3 before that link"
        )
    if leaves[bias].shape != (*pieces.stack, *pieces.outputs):
        raise InputError(
            f"ia3 expects the bias of {path!r} to have its outputs {[*pieces.stack, *pieces.outputs]}, "
            f"but {bias!r} has shape {list(leaves[bias].shape)}; rename what is no bias"
        )
