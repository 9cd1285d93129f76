"""Fine-tuning of the smallest leaves alone: biases, or the scales and biases of norms."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxft.adapt.ia3 import BIASES
from jaxft.adapt.partial import tune
from jaxft.errors import InputError
from jaxft.trees import everything, leaf_paths, map_with_path, select
from jaxft.types import Adaptation, Choice, Mask, Params
from jaxft.weights import is_structured

NORM = "scale"
"""What the factor of a norm is called; what lies beside it belongs to the norm."""


def bitfit(selector: Choice = everything) -> Adaptation:
    """Trains the biases, those of norms among them.

    The paper trains the head as well: ``chain(bitfit(~glob("head/**")), tune("head/**"))``.

    Args:
        selector: the part of the model whose biases learn: leaves called ``bias`` or ``b``.

    Raises:
        InputError: at ``init``, when the selected part has no bias.

    Example:
        >>> params = {"query": {"kernel": jnp.ones((6, 4)), "bias": jnp.ones(4)}}
        >>> frozen, delta = bitfit().init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        {'query': {'bias': (4,), 'kernel': None}}

    References:
        Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
        2022.
    """

    def biases(params: Params) -> Mask:
        return _those(selector, params, lambda path: path.rpartition("/")[2] in BIASES, _NO_BIAS)

    return tune(biases)


def norms(selector: Choice = everything) -> Adaptation:
    """Trains the scales and biases of norms.

    Args:
        selector: the part of the model whose norms learn: leaves called ``scale``, and the biases beside them.

    Raises:
        InputError: at ``init``, when the selected part has no norm.

    Example:
        >>> params = {"norm": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}, "up": {"bias": jnp.zeros(8)}}
        >>> frozen, delta = norms().init(jax.random.key(0), params)
        >>> jax.tree.map(jnp.shape, delta)
        {'norm': {'bias': (4,), 'scale': (4,)}, 'up': {'bias': None}}

    References:
        Zhao et al., "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning", 2023.
    """

    def of_norms(params: Params) -> Mask:
        paths = leaf_paths(params, is_leaf=is_structured)

        def of_norm(path: str) -> bool:
            parent, slash, name = path.rpartition("/")
            return name == NORM or (name in BIASES and f"{parent}{slash}{NORM}" in paths)

        return _those(selector, params, of_norm, _NO_NORM)

    return tune(of_norms)


_NO_BIAS = (
    "bitfit trains leaves called 'bias' or 'b', but {what} has none (nor have models such as Llama and T5); "
    "jaxft.norms() trains norms, jaxft.lora adapts kernels"
)
_NO_NORM = (
    "norms trains leaves called 'scale' and the biases beside them, but {what} has none; "
    "name the leaves of other norms with jaxft.tune"
)


def _those(selector: Choice, params: Params, rule: Callable[[str], bool], complaint: str) -> Mask:
    """The selected leaves of which the rule holds; the complaint when there are none."""
    chosen = select(selector, params)
    mask = map_with_path(lambda path, _, take: take and rule(path), params, chosen, is_leaf=is_structured)
    if not any(jax.tree.leaves(mask)):
        raise InputError(complaint.format(what="the model" if selector is everything else f"what {selector!r} selects"))
    return mask
