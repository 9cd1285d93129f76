"""AdamW as encoders are fine-tuned with it, built from optax's parts, and its schedules."""

from __future__ import annotations

import re

import jax.numpy as jnp
import optax

from jaxft.errors import InputError
from jaxft.trees import map_with_path
from jaxft.types import Array, Mask, PyTree


def decayed(tree: PyTree) -> Mask:
    """A mask of the leaves that weight decay applies to: all but biases and what scales.

    A leaf is left out when its last key is "bias" or "scale", or "l" or "m", as the factors of IA3 and the lengths of
    DoRA are called, which do not start at zero; and when a word on its path ends in "norm" or is "ln", as in
    "layernorm", "LayerNorm_0" or "ln_f". The factors of PiSSA and OLoRA hold a part of the base and do decay: take a
    weight decay of zero where that matters.

    Example:
        >>> decayed({"query": {"kernel": 0, "bias": 0}, "norm": {"scale": 0}})
        {'norm': {'scale': False}, 'query': {'bias': False, 'kernel': True}}
    """

    def decays(path: str, leaf: object) -> bool:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", path)
        normalises = any(word == "ln" or word.endswith("norm") for word in map(str.lower, words))
        return path.split("/")[-1] not in ("bias", "scale", "l", "m") and not normalises

    return map_with_path(decays, tree)


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float = 0.01,
    clip: float | None = 1.0,
    accumulate: int = 1,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    r"""AdamW with clipping by the global norm and gradient accumulation; biases and norm scales do not decay.

    .. math:: θ ← θ − η (m̂ / (√v̂ + ε) + λ θ)

    Args:
        learning_rate: η, a number or a schedule over optimizer updates (one for every ``accumulate`` steps).
        weight_decay: λ.
        clip: the largest global norm of the (accumulated) gradient; None does not clip.
        accumulate: the steps whose gradients are averaged into one update. With batches of equally many real rows this
            equals one step on a batch that many times larger.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: ε.

    Raises:
        InputError: ``accumulate`` is less than one, or ``clip`` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> optimizer = adamw(warmup_linear(1e-3, 100), accumulate=2)
        >>> state = optimizer.init({"delta": {"head": {"kernel": jnp.ones((4, 2))}}, "weights": ()})

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """
    if accumulate < 1:
        raise InputError(f"gradients are accumulated over at least one step, but accumulate is {accumulate}")
    if clip is not None and clip <= 0:
        raise InputError(
            f"clip is the largest norm of the gradient and must be positive, but is {clip}; None turns it off"
        )
    update = optax.adamw(learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=decayed)
    if clip is not None:
        update = optax.chain(optax.clip_by_global_norm(clip), update)
    if accumulate > 1:
        update = optax.MultiSteps(update, every_k_schedule=accumulate).gradient_transformation()
    return update


def warmup_linear(peak: float, steps: int, *, warmup: float = 0.1) -> optax.Schedule:
    r"""A schedule that rises linearly from zero to its peak and falls linearly back to zero.

    .. math:: η(t) = η_{peak} · \min(t / w, (T − t) / (T − w)), \quad w = round(warmup · T)

    Args:
        peak: the highest learning rate.
        steps: T, the optimizer updates in all.
        warmup: the share of the updates that rise.

    Raises:
        InputError: there is no step, or ``warmup`` lies outside [0, 1].

    Example:
        >>> schedule = warmup_linear(1.0, 100)
        >>> [round(float(schedule(t)), 2) for t in (0, 5, 10, 55, 100)]
        [0.0, 0.5, 1.0, 0.5, 0.0]

    References:
        Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
    """
    if steps < 1:
        raise InputError(f"a schedule needs at least one step, but steps is {steps}")
    if not 0.0 <= warmup <= 1.0:
        raise InputError(f"warmup is a share of the steps between 0 and 1, but is {warmup}")
    rising = round(warmup * steps)
    falling = optax.linear_schedule(peak, 0.0, max(steps - rising, 1))
    if rising == 0:
        return falling
    return optax.join_schedules([optax.linear_schedule(0.0, peak, rising), falling], [rising])


def slanted_triangular(peak: float, steps: int, *, cut: float = 0.1, ratio: float = 32.0) -> optax.Schedule:
    r"""A schedule that rises linearly to its peak in a short time and falls linearly in a long one.

    .. math:: η(t) = η_{peak} (1 + p (ratio − 1)) / ratio, \quad
        p = t / c \text{ if } t < c, \text{ else } 1 − (t − c) / (c (1 / cut − 1)), \quad c = ⌊cut · T⌋

    Where rounding c down would end the fall before the last step, p stays at zero.

    Args:
        peak: the highest learning rate.
        steps: T, the optimizer updates in all.
        cut: the share of the updates that rise.
        ratio: how many times the lowest rate is smaller than the highest.

    Raises:
        InputError: ``cut`` lies outside (0, 1) or leaves no step that rises, or ``ratio`` is below one.

    Example:
        >>> schedule = slanted_triangular(1.0, 100)
        >>> [round(float(schedule(t)), 3) for t in (0, 5, 10, 55, 100)]
        [0.031, 0.516, 1.0, 0.516, 0.031]

    References:
        Howard and Ruder, "Universal Language Model Fine-tuning for Text Classification", 2018.
    """
    if not 0.0 < cut < 1.0 or int(steps * cut) < 1:
        raise InputError(
            f"a slanted triangle rises for a share of the steps in (0, 1) and at least one step, "
            f"but cut is {cut} of {steps} steps"
        )
    if ratio < 1.0:
        raise InputError(f"ratio says how many times smaller the lowest rate is, at least 1, but is {ratio}")
    rising = int(steps * cut)

    def schedule(count: Array) -> Array:
        fall = 1 - (count - rising) / (rising * (1 / cut - 1))
        p = jnp.maximum(jnp.minimum(count / rising, fall), 0.0)
        return peak * (1 + p * (ratio - 1)) / ratio

    return schedule
