"""Learning rates that differ from array to array: by layer, by low-rank factor, by glob."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from jaxft.adapt.options import check_patterns, for_path
from jaxft.adapt.rank_budget import RankBudgetState
from jaxft.errors import InputError
from jaxft.train.learned import WEIGHTS, learned_names
from jaxft.trees import map_with_path
from jaxft.types import Array, PyTree

_NUMBERED = re.compile(r"(?:^|/)(?:layer|block|stage|h)s?[_/](\d+)(?=/|$)")
_LOWEST = re.compile(r"(?:embed|embeds|embeddings?|positions?|positional|relative|patch|patches|stem)")
_NEW = {"prefix", "prompt"}
"""Keys of what `prefix` and `prompt` add, which has no pretrained value wherever it lies."""

Rate = float | Array


def discriminative_rates(
    optimizer: optax.GradientTransformation, rates: Mapping[str, Rate]
) -> optax.GradientTransformationExtraArgs:
    """Multiplies the learning rate of each array by the number of the first glob that matches its path.

    θ ← θ + c · u,  u the optimizer's update, c the rate of the path

    The updates are multiplied, decoupled weight decay among them: the same as an optimizer of another learning rate for
    each group, as long as the update is proportional to the rate (SGD, Adam, AdamW and their like). Clip inside the
    optimizer or before it. `rank_budget` sets values by its updates and so goes outermost, around this.

    Args:
        optimizer: with the rate that is multiplied.
        rates: numbers by glob over paths in the params, which may be traced. Factors of a weight are at its path:
            ``"**/kernel/b"``. What an objective learns is at ``weights/…`` and keeps its rate unless a glob begins so.

    Raises:
        InputError: at ``init``, when a glob matches nothing that learns, an array that learns matches none, or the
            optimizer has a `rank_budget` in it.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = discriminative_rates(optax.sgd(1.0), {"head/**": 1.0, "**": 0.1})
        >>> learned = {"delta": {"body": {"kernel": jnp.ones(1)}, "head": {"kernel": jnp.ones(1)}}}
        >>> updates, _ = optimizer.update(learned, optimizer.init(learned), learned)
        >>> [float(updates["delta"][name]["kernel"][0]) for name in ("body", "head")]
        [-0.10000000149011612, -1.0]

    References:
        Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018.
    """

    def factors(names: Mapping[str, str]) -> dict[str, Rate]:
        check_patterns(rates, list(names.values()), "rates")
        ours = {glob: rate for glob, rate in rates.items() if glob.startswith(WEIGHTS)} | {"**": 1.0}
        return {
            path: for_path(ours if path.startswith(WEIGHTS) else rates, name, "rates") for path, name in names.items()
        }

    return _scaled(optimizer, factors)


def layerwise_rates(
    optimizer: optax.GradientTransformation, *, decay: Rate = 2.6, layers: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Divides the learning rate by a constant for each layer from the head down.

    η_{l−1} = η_l / decay,  η of the head is the optimizer's

    The layer is read from the path: a key such as ``layer_3``, ``block_3`` or ``layers/3``. Embeddings (and patches,
    positions, a stem: a key with such a word, as in ``patch_embed``) lie one below the lowest layer; everything else
    that has no number, such as the head, a pooler or a final norm, lies one above the highest, and so do the new
    vectors of `prompt` and `prefix`. A decoder lies over its encoder, a stage's layers over those of the stage
    before. What an objective learns keeps its rate. See `discriminative_rates` for what a rate means; `rank_budget`
    goes outermost here too.

    Args:
        optimizer: with the rate of the head.
        decay: by which one layer's rate is divided to get the next lower one's; may be traced.
        layers: how many layers the model has, of one stack. Needed when the highest does not learn, or not from the
            beginning; None counts those that learn.

    Raises:
        InputError: at ``init``, when no path has a numbered layer and ``layers`` is not given, or a path has a number
            beyond it, or the model has more than one stack of numbers and ``layers`` is given, or the optimizer has a
            `rank_budget` in it.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = layerwise_rates(optax.sgd(1.0), decay=2.0)
        >>> learned = {"delta": {name: jnp.ones(1) for name in ("embeddings", "layer_0", "layer_1", "head")}}
        >>> updates, _ = optimizer.update(learned, optimizer.init(learned), learned)
        >>> {name: float(update[0]) for name, update in updates["delta"].items()}
        {'embeddings': -0.125, 'head': -1.0, 'layer_0': -0.25, 'layer_1': -0.5}

    References:
        Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018.
    """

    def factors(names: Mapping[str, str]) -> dict[str, Rate]:
        depths = layer_depths([name for path, name in names.items() if not path.startswith(WEIGHTS)], layers)
        return {path: decay ** -depths[name] if name in depths else 1.0 for path, name in names.items()}

    return _scaled(optimizer, factors)


def layer_depths(names: list[str], layers: int | None = None) -> dict[str, int]:
    """How many layers below the head each path lies.

    Example:
        >>> layer_depths(["embeddings/word", "encoder/layer_0/up", "encoder/layer_1/up", "head/kernel"])
        {'embeddings/word': 3, 'encoder/layer_0/up': 2, 'encoder/layer_1/up': 1, 'head/kernel': 0}
    """
    places = {name: _place(name) for name in names}
    numbered = sorted({place for place in places.values() if place is not None and place[1]})
    simple = len({place[0] for place in numbered}) <= 1 and all(len(numbers) == 1 for _, numbers in numbered)
    if layers is not None and not simple:
        raise InputError(
            "layers counts those of one stack, but what learns has several stacks or stages of layers; "
            "leave it out, or use discriminative_rates"
        )
    if layers is None and not numbered:
        raise InputError(
            "layerwise_rates finds no numbered layer, such as encoder/layer_3/…, among the "
            f"{len(names)} arrays that learn ({', '.join(names[:3])}, …); give layers=, or use discriminative_rates"
        )
    highest = numbered[-1][1][0] + 1 if simple and numbered else len(numbered)
    if layers is not None and highest > layers:
        raise InputError(f"the model is said to have {layers} layers, but what learns has a layer {highest - 1}")
    count = highest if layers is None else layers

    def depth(place: tuple[int, tuple[int, ...]] | None) -> int:
        if place is None:
            return count + 1
        if place[1]:
            return count - (place[1][0] if simple else numbered.index(place))
        below_a_decoder = place[0] == 0 and any(stack == 1 for stack, _ in numbered)
        last = [index for index, (stack, _) in enumerate(numbered) if stack == 0]
        return count - last[-1] if below_a_decoder and last else 0

    return {name: depth(place) for name, place in places.items()}


def _place(name: str) -> tuple[int, tuple[int, ...]] | None:
    """The stack of a path, 0 an encoder's, 1 a decoder's, 2 neither's, and its numbers; None for what lies lowest."""
    keys = name.split("/")
    if _NEW.intersection(keys):
        return 2, ()
    numbers = tuple(map(int, _NUMBERED.findall(name)))
    if not numbers and any(_LOWEST.fullmatch(word) for key in keys for word in key.split("_")):
        return None
    return 0 if "encoder" in keys else 1 if "decoder" in keys else 2, numbers


def lora_plus(optimizer: optax.GradientTransformation, *, ratio: Rate = 16.0) -> optax.GradientTransformationExtraArgs:
    """Multiplies the learning rate of the low-rank factor B.

    η_B = λ η_A,  η_A the optimizer's

    B is what is called ``b`` beside an ``a``, as in the delta of `lora`. Everything else keeps its rate. See
    `discriminative_rates` for what a rate means.

    Args:
        optimizer: with the rate of A.
        ratio: λ; may be traced.

    Raises:
        InputError: at ``init``, when no pair of factors learns.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = lora_plus(optax.sgd(1.0), ratio=16)
        >>> learned = {"delta": {"query": {"a": jnp.ones((4, 1)), "b": jnp.ones((1, 3))}}}
        >>> updates, _ = optimizer.update(learned, optimizer.init(learned), learned)
        >>> {name: float(update[0, 0]) for name, update in updates["delta"]["query"].items()}
        {'a': -1.0, 'b': -16.0}

    References:
        Hayou, Ghosh and Yu, "LoRA+: Efficient Low Rank Adaptation of Large Models", 2024.
    """

    def factors(names: Mapping[str, str]) -> dict[str, Rate]:
        seconds = {path for path in names if path.split("/")[-1] == "b" and f"{path[:-1]}a" in names}
        if not seconds:
            raise InputError(
                f"lora_plus finds no pair of factors a and b among the {len(names)} arrays that learn; "
                "use it with lora or another low-rank adaptation whose a and b both learn"
            )
        return {path: ratio if path in seconds else 1.0 for path in names}

    return _scaled(optimizer, factors)


def _scaled(
    optimizer: optax.GradientTransformation, factors: Callable[[Mapping[str, str]], Mapping[str, Rate]]
) -> optax.GradientTransformationExtraArgs:
    """Multiplies every update by the factor of its path, which is found from the paths alone."""
    inner = optax.with_extra_args_support(optimizer)

    def init(learned: PyTree) -> Any:
        factors(learned_names(learned))
        state = inner.init(learned)
        if any(map(_is_budget, jax.tree.leaves(state, is_leaf=_is_budget))):
            raise InputError(
                "a wrapper of rates multiplies the updates by which rank_budget sets entries to zero, so that they "
                "would not become zero; put rank_budget outermost, as in rank_budget(layerwise_rates(adamw(1e-3)), …)"
            )
        return state

    def update(updates: PyTree, state: Any, learned: PyTree = None, **extra: Any) -> tuple[PyTree, Any]:
        rates = factors(learned_names(updates))
        updates, state = inner.update(updates, state, learned, **extra)
        return map_with_path(lambda path, update: (rates[path] * update).astype(update.dtype), updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _is_budget(state: Any) -> bool:
    return isinstance(state, RankBudgetState)
